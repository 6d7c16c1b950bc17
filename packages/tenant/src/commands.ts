import { pythonJson, pythonRepr } from '@keylime/api/python-json';
import type { Json } from '@keylime/core/json';
import { enrol } from './enrolment.ts';
import { confirmKey, handOver } from './handover.ts';
import { identify } from './identify.ts';
import { mbPolicyCommands } from './mb-policy-commands.ts';
import { notificationCommands } from './notification-commands.ts';
import { REGISTERED, shownStatus } from './operational-state.ts';
import { printJson } from './output.ts';
import { planPayload, withDelivery } from './payload-plan.ts';
import { policyCommands } from './policy-commands.ts';
import { requireFreePolicyNames } from './policy-names.ts';
import { requireAcceptedPolicy } from './policy-trial.ts';
import { findRegistrarRecord } from './registrar-record.ts';
import { removeFromVerifier, warnIfElsewhere } from './removal.ts';
import { answerText, resultsOf, segment, unexpectedAnswer } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';
import { showVerifierRecord } from './verifier-record.ts';

export type Command = {
  readonly help: string;
  readonly run: (tenant: Tenant) => Promise<void>;
};

/** U goes to the agent before V goes to the verifier, which may release V at once (spec 07 section 3.6). */
async function add(tenant: Tenant): Promise<void> {
  const plan = await planPayload(tenant.given, tenant.payloads, tenant.agentId);
  const candidate = await identify(tenant);
  await withDelivery(plan, async (delivery) => {
    if (delivery) await handOver(tenant, candidate, delivery);
    await enrol(tenant.verifier(), candidate, delivery, tenant.retries, tenant.output);
    if (delivery && tenant.given.verify) await confirmKey(tenant, candidate, delivery);
  });
}

/**
 * The wire has no replacement of an agent, only delete and add. Everything that can fail is tried before the delete, and
 * the add is repeated, so that an agent is not left unmonitored by a typing error or a short outage.
 */
async function update(tenant: Tenant): Promise<void> {
  const { given, output, retries } = tenant;
  const plan = await planPayload(given, tenant.payloads, tenant.agentId);
  const candidate = await identify(tenant);
  const verifier = tenant.verifier();
  await requireFreePolicyNames(verifier, candidate);
  await requireAcceptedPolicy(verifier, candidate.policies, output.log);
  const options = { check: !given.noVerifierCheck, pushModel: given.pushModel, retries };
  await withDelivery(plan, async (delivery) => {
    if (delivery) await handOver(tenant, candidate, delivery);
    await removeFromVerifier(verifier, candidate.id, options, output);
    try {
      await enrol(verifier, candidate, delivery, retries, output, { persistent: true });
    } catch (error) {
      output.log.critical(`${candidate.label} is NOT monitored any more: correct the problem and run "add" for it`);
      throw error;
    }
    if (delivery && given.verify) await confirmKey(tenant, candidate, delivery);
  });
}

async function remove(tenant: Tenant): Promise<void> {
  const { given, retries } = tenant;
  const options = { check: !given.noVerifierCheck, pushModel: given.pushModel, retries };
  await removeFromVerifier(tenant.verifier(), tenant.agentId(), options, tenant.output);
}

async function regstatus(tenant: Tenant): Promise<void> {
  const { output } = tenant;
  const id = tenant.agentId();
  const registrar = tenant.registrar();
  const where = `registrar ${registrar.host} port ${registrar.port}`;
  const record = await findRegistrarRecord(registrar, id);
  if ('absent' in record) {
    output.log.error(`${registrar.label}: ${record.absent}`);
    output.log.info(`Agent ${id} does not exist on the registrar. Please register the agent with the registrar.`);
    const answer = { code: 404, status: `Agent ${id} does not exist on ${where}.`, results: {} };
    output.log.info(pythonJson(answer));
    throw new TenantError(
      'not_registered',
      `Agent ${id} does not exist on ${registrar.label}. The agent's log says why it did not register`,
    );
  }
  const results: { readonly [key: string]: Json } = { [id]: { ...record, operational_state: REGISTERED } };
  const answer = { code: 200, status: `Agent ${id} exists on ${where}.`, results };
  output.log.info(`Status from ${registrar.label}: ${answer.status}`);
  output.log.info(pythonJson(answer));
  printJson(output, `Agent Info from ${registrar.label}:`, results);
}

async function cvstatus(tenant: Tenant): Promise<void> {
  const id = tenant.agentId();
  const verifier = tenant.verifier();
  if (!(await showVerifierRecord(verifier, id, tenant.given.pushModel, tenant.output))) {
    throw new TenantError('not_enrolled', `Agent ${id} does not exist on ${verifier.label}.`);
  }
}

async function status(tenant: Tenant): Promise<void> {
  await regstatus(tenant);
  await cvstatus(tenant);
}

const filter = ({ given }: Tenant): string => `verifier=${encodeURIComponent(given.verifierId ?? '')}`;

/** [compat] 404, 503 and 504 end with exit code 0. */
async function cvlist(tenant: Tenant): Promise<void> {
  const { output } = tenant;
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', `/agents/?${filter(tenant)}`);
  if (answer.status === 404) return output.log.info(`${verifier.label} does not have any agents`);
  if (answer.status === 503 || answer.status === 504) {
    return output.log.error(`${verifier.label} is not ready: ${answer.status} ${answerText(answer)}`);
  }
  const results = resultsOf(answer);
  if (answer.status !== 200 || results === undefined || answer.json === undefined) {
    throw unexpectedAnswer(verifier, 'listing agents', answer);
  }
  output.log.info(`From verifier ${verifier.host} port ${verifier.port} retrieved: "${pythonRepr(answer.json)}"`);
  output.print('');
  printJson(output, `Agent list from ${verifier.label} retrieved: `, results);
}

async function bulkinfo(tenant: Tenant): Promise<void> {
  const verifier = tenant.verifier();
  const answer = await verifier.call('GET', `/agents/?bulk=True&${filter(tenant)}`);
  const results = resultsOf(answer);
  if (answer.status !== 200 || results === undefined) throw unexpectedAnswer(verifier, 'reading all agents', answer);
  const shown = Object.entries(results).map(([id, record]): [string, Json] => {
    const fields = record as { readonly [key: string]: Json };
    return [id, shownStatus(fields, fields.operational_state ?? 'Not applicable (Push Mode)')];
  });
  printJson(tenant.output, 'Bulk Agent Info:', Object.fromEntries(shown));
}

async function reglist(tenant: Tenant): Promise<void> {
  const { output } = tenant;
  const registrar = tenant.registrar();
  const answer = await registrar.call('GET', '/agents/');
  const results = resultsOf(answer);
  if (answer.status !== 200 || results === undefined || answer.json === undefined) {
    throw unexpectedAnswer(registrar, 'listing agents', answer);
  }
  output.log.info(`From registrar ${registrar.host} port ${registrar.port} retrieved ${pythonJson(answer.json)}`);
  output.print('');
  printJson(output, `Agent list from ${registrar.label} retrieved: `, results);
}

/** [compat] An answer that is no success is a warning, with exit code 0. */
async function regdelete(tenant: Tenant): Promise<void> {
  const registrar = tenant.registrar();
  const answer = await registrar.call('DELETE', `/agents/${segment(tenant.agentId())}`);
  if (answer.status === 200) return;
  tenant.output.log.warn(`Status command response: ${answer.status} Unexpected response from registrar.`);
  tenant.output.log.warn(`Response code ${answer.status}: ${answerText(answer)}`);
}

async function reactivate(tenant: Tenant): Promise<void> {
  const { given, output } = tenant;
  const id = tenant.agentId();
  const verifier = tenant.verifier();
  if (!given.noVerifierCheck) {
    const record = await showVerifierRecord(verifier, id, given.pushModel, output);
    if (record === undefined) throw new TenantError('not_enrolled', `Agent ${id} does not exist on ${verifier.label}.`);
    warnIfElsewhere(verifier, id, record, output);
  }
  const answer = await verifier.call('PUT', `/agents/${segment(id)}/reactivate`);
  if (answer.status !== 200) throw unexpectedAnswer(verifier, `reactivating agent ${id}`, answer);
  // [compat] Printed twice.
  output.log.info(`Agent ${id} re-activated`);
  output.log.info(`Agent ${id} re-activated`);
}

/** Every command by its name. */
export const COMMANDS: { readonly [name: string]: Command } = {
  add: { help: 'check an agent and give it to the verifier', run: add },
  update: { help: 'check an agent and replace it on the verifier', run: update },
  delete: { help: 'take an agent out of the verifier', run: remove },
  reactivate: { help: 'attest an agent again that failed', run: reactivate },
  status: { help: 'show what registrar and verifier know of an agent', run: status },
  cvstatus: { help: 'show what the verifier knows of an agent', run: cvstatus },
  regstatus: { help: 'show what the registrar knows of an agent', run: regstatus },
  cvlist: { help: 'list the agents of the verifier', run: cvlist },
  reglist: { help: 'list the agents of the registrar', run: reglist },
  bulkinfo: { help: 'show what the verifier knows of all its agents', run: bulkinfo },
  regdelete: { help: 'take an agent out of the registrar', run: regdelete },
  ...policyCommands,
  ...mbPolicyCommands,
  ...notificationCommands,
};
