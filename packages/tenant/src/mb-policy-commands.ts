import type { Command } from './commands.ts';
import { finishPolicyCommand } from './policy-answer.ts';
import { readPolicyOptions } from './policy-options.ts';
import { segment } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

const write =
  (method: 'POST' | 'PUT') =>
  async (tenant: Tenant): Promise<void> => {
    const { given } = tenant;
    if (given.mbPolicyName === undefined) {
      throw new TenantError('invalid_argument', 'mb_policy_name is required to add measure boot policy');
    }
    const fields = await readPolicyOptions(given, tenant, tenant.output.log);
    const { mb_policy, mb_policy_rules } = fields;
    const verifier = tenant.verifier();
    const body = { mb_policy, ...(mb_policy_rules !== undefined && { mb_policy_rules }) };
    const answer = await verifier.call(method, `/mbpolicies/${segment(fields.mb_policy_name)}`, body);
    finishPolicyCommand(tenant, verifier, 'storing a measured-boot policy', answer);
  };

const nameFor = ({ given }: Tenant, verb: 'show' | 'delete'): string => {
  if (given.mbPolicyName) return given.mbPolicyName;
  // [compat] The existing tool says so.
  throw new TenantError('invalid_argument', `--mb_policy_name is required to ${verb} a runtime policy`);
};

async function show(tenant: Tenant): Promise<void> {
  const name = nameFor(tenant, 'show');
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', `/mbpolicies/${segment(name)}`);
  tenant.output.print(`showmbpolicy command response: ${answer.status}.`);
  finishPolicyCommand(tenant, verifier, 'reading a measured-boot policy', answer);
}

async function remove(tenant: Tenant): Promise<void> {
  const name = nameFor(tenant, 'delete');
  const verifier = tenant.verifier();
  const answer = await verifier.call('DELETE', `/mbpolicies/${segment(name)}`);
  finishPolicyCommand(tenant, verifier, 'deleting a measured-boot policy', answer);
}

async function list(tenant: Tenant): Promise<void> {
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', '/mbpolicies/');
  tenant.output.print(`listmbpolicy command response: ${answer.status}.`);
  finishPolicyCommand(tenant, verifier, 'listing measured-boot policies', answer);
}

/** The commands about named measured-boot policies. */
export const mbPolicyCommands: { readonly [name: string]: Command } = {
  addmbpolicy: { help: 'store a measured-boot policy under a name', run: write('POST') },
  updatembpolicy: { help: 'replace a named measured-boot policy', run: write('PUT') },
  showmbpolicy: { help: 'show a named measured-boot policy', run: show },
  deletembpolicy: { help: 'delete a named measured-boot policy', run: remove },
  listmbpolicy: { help: 'list the names of measured-boot policies', run: list },
};
