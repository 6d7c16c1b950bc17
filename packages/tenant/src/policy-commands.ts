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
    if (given.runtimePolicyName === undefined) {
      if (given.allowlistName === undefined) {
        throw new TenantError('invalid_argument', 'runtime_policy_name is required to add a runtime policy');
      }
      tenant.output.log.warn('--allowlist-name is deprecated: use --runtime-policy-name');
    }
    const fields = await readPolicyOptions(given, tenant, tenant.output.log);
    const { tpm_policy, runtime_policy, runtime_policy_key } = fields;
    const verifier = tenant.verifier();
    const body = { tpm_policy, runtime_policy, runtime_policy_key };
    const answer = await verifier.call(method, `/allowlists/${segment(fields.runtime_policy_name)}`, body);
    finishPolicyCommand(tenant, verifier, 'storing a runtime policy', answer);
  };

const nameFor = ({ given }: Tenant, verb: 'show' | 'delete'): string => {
  const name = given.allowlistName || given.runtimePolicyName;
  if (name) return name;
  const text = `--allowlist_name or --runtime_policy_name is required to ${verb} a runtime policy`;
  throw new TenantError('invalid_argument', text);
};

async function show(tenant: Tenant): Promise<void> {
  const name = nameFor(tenant, 'show');
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', `/allowlists/${segment(name)}`);
  tenant.output.print(`Show allowlist command response: ${answer.status}.`);
  finishPolicyCommand(tenant, verifier, 'reading a runtime policy', answer);
}

async function remove(tenant: Tenant): Promise<void> {
  const name = nameFor(tenant, 'delete');
  const verifier = tenant.verifier();
  finishPolicyCommand(
    tenant,
    verifier,
    'deleting a runtime policy',
    await verifier.call('DELETE', `/allowlists/${segment(name)}`),
  );
}

async function list(tenant: Tenant): Promise<void> {
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', '/allowlists/');
  tenant.output.print(`list command response: ${answer.status}.`);
  finishPolicyCommand(tenant, verifier, 'listing runtime policies', answer);
}

const deprecated = (old: string, name: string, { run }: Command): Command => ({
  help: `deprecated name of ${name}`,
  run: async (tenant) => {
    tenant.output.log.warn(`-c ${old} is deprecated: use -c ${name}`);
    await run(tenant);
  },
});

const commands = {
  addruntimepolicy: { help: 'store a runtime policy under a name', run: write('POST') },
  updateruntimepolicy: { help: 'replace a named runtime policy', run: write('PUT') },
  showruntimepolicy: { help: 'show a named runtime policy', run: show },
  deleteruntimepolicy: { help: 'delete a named runtime policy', run: remove },
  listruntimepolicy: { help: 'list the names of runtime policies', run: list },
} as const satisfies { readonly [name: string]: Command };

/** The commands about named runtime policies, and their old names. */
export const policyCommands: { readonly [name: string]: Command } = {
  ...commands,
  addallowlist: deprecated('addallowlist', 'addruntimepolicy', commands.addruntimepolicy),
  showallowlist: deprecated('showallowlist', 'showruntimepolicy', commands.showruntimepolicy),
  deleteallowlist: deprecated('deleteallowlist', 'deleteruntimepolicy', commands.deleteruntimepolicy),
};
