import { CURRENT_API_VERSION } from '@keylime/api/versions';
import type { AgentId } from '@keylime/core/agent-id';
import { identityNonce, negotiateAgentVersion, requestedAgentVersion, requestIdentityQuote } from './agent-api.ts';
import type { Connection } from './connection.ts';
import { checkEk } from './ek-check.ts';
import type { Candidate } from './enrolment.ts';
import { type IdentityEvidence, identityFailureText, verifyIdentityQuote } from './identity-quote.ts';
import { readPolicyOptions } from './policy-options.ts';
import { findRegistrarRecord, type RegistrarRecord } from './registrar-record.ts';
import { withRetries } from './retry.ts';
import type { AgentAddress, Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/**
 * Everything that must be true before an agent is given to a verifier, in this order (spec 07 section 3.6): the policies
 * are readable, the registrar knows the agent, its EK is trusted, and (pull model) the machine at its address signs with
 * the registered AK. Nothing was sent to the verifier when it throws.
 */
export async function identify(tenant: Tenant): Promise<Candidate> {
  const { given, output } = tenant;
  const requested = requestedAgentVersion(given.agentApiVersion ?? given.supportedVersion);
  const policies = await readPolicyOptions(given, tenant, output.log);
  const id = tenant.agentId();
  const registrar = tenant.registrar();
  output.progress(`asking ${registrar.label} for agent ${id}`);
  const record = await findRegistrarRecord(registrar, id);
  if ('absent' in record) {
    output.log.error(`${registrar.label}: ${record.absent}`);
    throw new TenantError('not_registered', `Agent $${id} data not found in the Registrar.`);
  }
  // First of all: a TPM that nobody vouches for is not asked anything.
  output.progress(`checking the EK of agent ${id}`);
  await checkEk(id, record, tenant.ek, output.log);

  const host = given.agentHost ?? record.ip;
  const port = given.agentPort ?? record.port;
  const label = host === null ? `Agent ${id}` : `Agent ${id} (${host}:${port})`;
  const identity = given.pushModel
    ? { apiVersion: requested ?? CURRENT_API_VERSION, agent: undefined }
    : await checkIdentity(tenant, { id, label, record, host, port, requested });
  return {
    id,
    label,
    record,
    host: given.verifierAgentHost ?? host,
    port,
    ...identity,
    policies,
    accepted: tenant.accepted,
    pushModel: given.pushModel,
  };
}

type Subject = {
  readonly id: AgentId;
  readonly label: string;
  readonly record: RegistrarRecord;
  readonly host: string | null;
  readonly port: number | string | null;
  readonly requested: string | undefined;
};

/** Asks the agent for an identity quote and verifies it; the version of the API that it speaks, and its transport key. */
async function checkIdentity(
  tenant: Tenant,
  subject: Subject,
): Promise<Required<Pick<Candidate, 'apiVersion' | 'agent'>>> {
  const { output, retries } = tenant;
  const { label, record } = subject;
  const address = agentAddress(tenant, subject);
  const connection = tenant.connectAgent(address);
  const nonce = identityNonce();
  try {
    let problem: unknown;
    const asked = await withRetries(
      retries,
      async () => {
        output.progress(`asking ${label} for a quote`);
        try {
          return await ask(connection, subject, nonce, tenant);
        } catch (error) {
          if (!(error instanceof TenantError) || error.code !== 'unreachable') throw error;
          problem = error;
          return 'again';
        }
      },
      (n, seconds) => {
        output.log.info(
          `Tenant connection to ${label} failed ${n}/${retries.attempts} times, trying again in ${seconds} seconds...`,
        );
      },
    );
    if (asked === undefined) {
      const why = problem instanceof Error ? problem.message : String(problem);
      throw new TenantError('unreachable', `Tenant cannot establish connection to ${label}: ${why}`, {
        cause: problem,
      });
    }
    const { evidence, version } = asked.value;
    const result = verifyIdentityQuote({ evidence, akTpm: record.aik_tpm, nonce, accepted: tenant.accepted });
    if (!result.ok) {
      if (record.regcount > 1) {
        output.log.warn(
          `${label} registered ${record.regcount} times: it may be misconfigured, or another machine took its id. ` +
            'If it is the right one, run regdelete and start the agent again',
        );
      }
      throw new TenantError('quote_rejected', identityFailureText(result.failure, label, nonce));
    }
    if (!result.clockIsSafe) output.log.warn(`The TPM of ${label} lost power and does not vouch for its clock yet`);
    output.log.info(`Quote from ${label} validated`);
    return { apiVersion: version, agent: { address, transportKeyPem: evidence.pubkey } };
  } finally {
    await connection.close();
  }
}

async function ask(
  connection: Connection,
  { label, requested }: Subject,
  nonce: string,
  { output }: Tenant,
): Promise<{ readonly version: string; readonly evidence: IdentityEvidence }> {
  const version = requested ?? (await negotiateAgentVersion(connection, label, output));
  output.log.info(`Using API version ${version} for agent communication`);
  return { version, evidence: await requestIdentityQuote(connection, { version, nonce, label }, output) };
}

/** Where the agent is, and which certificate it must show. */
function agentAddress(tenant: Tenant, { id, label, record, host, port }: Subject): AgentAddress {
  if (host === null || port === null) {
    throw new TenantError(
      'invalid_argument',
      `The registrar has no address of agent ${id}: name it with -t and -tp, or use --push-model if it sends its evidence by itself`,
    );
  }
  const address = { host, port: String(port) };
  if (record.mtls_cert !== null && record.mtls_cert !== 'disabled')
    return { ...address, certificate: record.mtls_cert };
  if (record.mtls_cert === null && tenant.enableAgentMtls) {
    throw new TenantError(
      'untrusted_peer',
      `${label} registered no TLS certificate: set enable_agent_mtls in its agent.conf, or enable_agent_mtls = False in tenant.conf`,
    );
  }
  tenant.output.log.warn(
    `mTLS for ${label} is disabled: it is known by its TPM alone, and everything that is sent to it can be read on the way`,
  );
  return { ...address, certificate: undefined };
}
