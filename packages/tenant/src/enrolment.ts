import type { AgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import type { AcceptedAlgorithms } from './identity-quote.ts';
import type { Output } from './output.ts';
import type { Delivery } from './payload-plan.ts';
import type { PolicyFields } from './policy-options.ts';
import type { RegistrarRecord } from './registrar-record.ts';
import { type RetrySettings, withRetries } from './retry.ts';
import { type Answer, answerText, type ServerApi, segment, unexpectedAnswer, warningsIn } from './server-api.ts';
import type { AgentAddress } from './tenant.ts';
import { TenantError } from './tenant-error.ts';
import { showVerifierRecord } from './verifier-record.ts';

/** An agent whose identity was checked, with what the verifier needs to attest it. */
export type Candidate = {
  readonly id: AgentId;
  /** Such as `Agent abc (10.0.0.7:9002)`. */
  readonly label: string;
  readonly record: RegistrarRecord;
  /** Where the verifier reaches it. */
  readonly host: string | null;
  readonly port: number | string | null;
  readonly apiVersion: string;
  readonly policies: PolicyFields;
  readonly accepted: AcceptedAlgorithms;
  readonly pushModel: boolean;
  /** Where the agent answered, and the key that its quote binds to its TPM; `undefined` for a push agent. */
  readonly agent: { readonly address: AgentAddress; readonly transportKeyPem: string } | undefined;
};

/** The body of POST /agents/{id} (spec 07 section 3.6). [compat] Every key is always there; ports may be text. */
export const enrolmentBody = (
  candidate: Candidate,
  delivery: Delivery | undefined,
  verifier: ServerApi,
): { readonly [key: string]: Json } => ({
  v: delivery?.key.v.toString('base64') ?? null,
  cloudagent_ip: candidate.host,
  cloudagent_port: candidate.port,
  verifier_ip: verifier.host,
  verifier_port: verifier.port,
  tpm_policy: candidate.policies.tpm_policy,
  runtime_policy: candidate.policies.runtime_policy,
  runtime_policy_name: candidate.policies.runtime_policy_name,
  runtime_policy_key: candidate.policies.runtime_policy_key,
  mb_policy: candidate.policies.mb_policy,
  mb_policy_name: candidate.policies.mb_policy_name,
  ...(candidate.policies.mb_policy_rules !== undefined && { mb_policy_rules: candidate.policies.mb_policy_rules }),
  ima_sign_verification_keys: candidate.policies.ima_sign_verification_keys,
  ...(candidate.policies.ima_extend_mode && { ima_extend_mode: candidate.policies.ima_extend_mode }),
  metadata: delivery?.metadata ?? '{}',
  revocation_key: delivery?.revocationKey ?? '',
  accept_tpm_hash_algs: candidate.accepted.hash,
  accept_tpm_encryption_algs: candidate.accepted.encryption,
  accept_tpm_signing_algs: candidate.accepted.signing,
  ak_tpm: candidate.record.aik_tpm,
  mtls_cert: candidate.record.mtls_cert,
  supported_version: candidate.apiVersion,
});

/**
 * Gives the candidate to the verifier, with V if a payload is delivered, and waits until the verifier has it. With
 * `persistent`, a verifier that cannot be reached or fails is asked again: for an agent that was taken out a moment ago and
 * would stay unmonitored.
 * @throws TenantError `conflict`, `unexpected_answer`, `gave_up`, `unreachable`
 */
export async function enrol(
  verifier: ServerApi,
  candidate: Candidate,
  delivery: Delivery | undefined,
  retries: RetrySettings,
  output: Output,
  { persistent = false } = {},
): Promise<void> {
  await warnOfOtherModel(verifier, candidate, output);
  const body = enrolmentBody(candidate, delivery, verifier);
  let asked = 0;
  let lastProblem: unknown;
  const post = async (): Promise<Answer | 'again'> => {
    asked++;
    output.progress(`giving ${candidate.label} to ${verifier.label}`);
    try {
      const answer = await verifier.call('POST', `/agents/${segment(candidate.id)}`, body);
      if (!persistent || answer.status < 500) return answer;
      lastProblem = unexpectedAnswer(verifier, `adding ${candidate.label}`, answer);
    } catch (error) {
      if (!persistent || !(error instanceof TenantError) || error.code !== 'unreachable') throw error;
      lastProblem = error;
    }
    return 'again';
  };
  const posted = await withRetries(retries, post, (n, seconds) => {
    output.log.warn(
      `${candidate.label} could not be added to ${verifier.label} at try ${n}/${retries.attempts}, trying again in ${seconds} seconds...`,
    );
  });
  if (posted === undefined) throw lastProblem;
  const { value: answer } = posted;
  // A repeated request may meet the agent that the one before did add although its answer was lost.
  if (answer.status === 409 && asked === 1) {
    throw new TenantError(
      'conflict',
      `${verifier.label} responded indicating a conflict for agent ${candidate.label}. Run "delete" or "update" first.` +
        ` It said: ${withoutSecrets(answerText(answer), delivery)}`,
    );
  }
  if (answer.status !== 200 && answer.status !== 409) {
    throw new TenantError(
      'unexpected_answer',
      `POST command response: ${answer.status} Unexpected response from ${verifier.label}: ` +
        withoutSecrets(answerText(answer), delivery),
    );
  }
  for (const warning of warningsIn(answer)) output.log.warn(withoutSecrets(warning, delivery));
  await waitUntilEnrolled(verifier, candidate, retries, output);
}

/** [compat] Suites of the field enrol agents of one model at verifiers of the other: told, and done. */
async function warnOfOtherModel(verifier: ServerApi, { label, pushModel }: Candidate, output: Output): Promise<void> {
  if ((await verifier.isPushedTo()) === pushModel) return;
  output.log.warn(
    pushModel
      ? `${verifier.label} asks its agents (mode = pull): ${label} will not be attested by it; leave out --push-model, or use another verifier`
      : `${verifier.label} asks no agents (mode = push): ${label} is attested only if it sends its evidence by itself, so use --push-model`,
  );
}

/** [MUST] A server that repeats what it was sent must not bring V or a key into the operator's log. */
function withoutSecrets(text: string, delivery: Delivery | undefined): string {
  const secrets = [delivery?.key.v.toString('base64'), ...(delivery?.revocationKey.split('\n') ?? [])];
  return secrets.reduce<string>((shown, secret) => (secret ? shown.replaceAll(secret, '[not shown]') : shown), text);
}

async function waitUntilEnrolled(
  verifier: ServerApi,
  { id, label, pushModel }: Candidate,
  retries: RetrySettings,
  output: Output,
): Promise<void> {
  const found = await withRetries(
    retries,
    async () => {
      output.progress(`waiting until ${verifier.label} has ${label}`);
      return (await showVerifierRecord(verifier, id, pushModel, output)) ?? 'again';
    },
    (n, seconds) => {
      output.log.info(
        `${label} still not added to ${verifier.label} at try ${n}/${retries.attempts}, trying again in ${seconds} seconds...`,
      );
    },
  );
  if (found === undefined) {
    throw new TenantError('gave_up', `${label} still not added to ${verifier.label} after ${retries.attempts} tries`);
  }
  output.log.info(`${label} added to ${verifier.label} after ${found.failures} tries`);
}
