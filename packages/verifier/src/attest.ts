import { mayChangeApiVersion, negotiateApiVersion, saysVersionNotSupported } from '@keylime/api/versions';
import type { Expectation } from '@keylime/appraisal/appraise';
import { BOOT_AGGREGATE } from '@keylime/appraisal/boot-aggregate';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { BootExpectation } from '@keylime/appraisal/measured-boot';
import type { Progress } from '@keylime/appraisal/progress';
import { isJsonObject } from '@keylime/core/json';
import { BOOT_PCR_MASK } from '@keylime/measured-boot/boot-pcrs';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { Agent } from './agent.ts';
import { isOtherCertificate, isRetried, parseShort, statusText, unreachableReason } from './agent-answer.ts';
import type { AgentAnswer, AgentConnection } from './agent-connection.ts';
import type { Expectations, PoliciesOfRound } from './expectations.ts';
import { newNonce } from './nonce.ts';
import type { Outcome } from './transition.ts';

/** Judges the body of an answer, here or in another thread. */
export type Judge = (body: Buffer, expectation: Expectation, progress: Progress) => Outcome | Promise<Outcome>;

const IMA_BIT = 1 << 10;

/** PCRs 0 to 9, of which the boot aggregate is the hash. */
const BOOT_BITS = 0x3ff;

/**
 * The PCRs to ask for: those of the TPM policy, those of a boot where it is judged, PCR 10 wherever there is something to
 * judge a list by, and with it those that the boot aggregate is made of where the policy names none: so machines that boot
 * differently can share a policy.
 */
export function quotedMask(
  { tpmPolicy, verificationKeys }: Pick<Expectations, 'tpmPolicy' | 'verificationKeys'>,
  runtimePolicy: RuntimePolicy,
  measuredBoot?: BootExpectation,
): number {
  const mask = tpmPolicy.mask | (measuredBoot === undefined ? 0 : BOOT_PCR_MASK);
  if (isEmptyPolicy(runtimePolicy) && (verificationKeys?.size ?? 0) === 0) return mask;
  const { digests, excludes } = runtimePolicy;
  const isNamed = digests.has(BOOT_AGGREGATE) || excludes.matches(BOOT_AGGREGATE);
  return mask | IMA_BIT | (isNamed ? 0 : BOOT_BITS);
}

const isEmptyPolicy = ({ generator, digests, keyrings, buffers, dmPolicy, verificationKeys }: RuntimePolicy): boolean =>
  generator <= 1 && digests.size + keyrings.size + buffers.size + verificationKeys.size === 0 && dmPolicy === null;

/**
 * One attestation over the wire: asks for a quote, and judges the answer (06 section 1.4 of the reference). Rejects only
 * if something of ours is broken; whatever the agent does, or does not do, is an outcome.
 */
export async function attest(
  agent: Agent,
  expectations: Expectations,
  { runtimePolicy, measuredBoot }: PoliciesOfRound,
  connection: AgentConnection,
  judge: Judge,
): Promise<Outcome> {
  const { progress, accepted } = agent;
  const nonce = newNonce();
  const mask = quotedMask(expectations, runtimePolicy, measuredBoot);
  // Entries that another policy accepted are not accepted by this one: the list is asked for from its start.
  const samePolicy = progress.policyChecksum === runtimePolicy.checksum;
  const requestedEntry = samePolicy ? progress.nextEntry : 0;
  const wantsKey = requestedEntry === 0 || progress.transportKeyPem === undefined || agent.unreachableRounds > 0;
  const query = `nonce=${nonce}&mask=0x${mask.toString(16)}&partial=${wantsKey ? 0 : 1}&ima_ml_entry=${requestedEntry}`;

  let answer: AgentAnswer;
  try {
    answer = await connection.get(`/v${agent.supportedVersion}/quotes/integrity?${query}`);
  } catch (error) {
    return unreachable(error);
  }
  if (answer.status !== 200) return otherAnswer(agent, answer, connection);
  const asked = { nonce, mask, requestedEntry };
  return judge(answer.body, { ...expectations, ...asked, accepted, runtimePolicy, measuredBoot }, progress);
}

async function otherAnswer(agent: Agent, answer: AgentAnswer, connection: AgentConnection): Promise<Outcome> {
  const { status } = answer;
  const text = statusText(answer);
  if (isRetried(answer)) return { kind: 'unreachable', reason: `HTTP ${status} ${text}`.trim() };
  if (status === 400 && saysVersionNotSupported(text)) return renegotiate(agent, connection);
  const message = `The agent answered ${status} to a quote request: ${text || 'no reason given'}`;
  return { kind: 'refused', event: engineEvent('no_quote', message) };
}

/** The agent no longer speaks the version it was enrolled with. [MUST] Once it was attested, only a newer one will do. */
async function renegotiate(agent: Agent, connection: AgentConnection): Promise<Outcome> {
  let answer: AgentAnswer;
  try {
    answer = await connection.get('/version');
  } catch (error) {
    return unreachable(error);
  }
  const body = parseShort(answer.body);
  const results = isJsonObject(body) && isJsonObject(body.results) ? body.results : {};
  const offered = Array.isArray(results.supported_versions) ? results.supported_versions : [results.supported_version];
  const version = negotiateApiVersion(offered.filter((item): item is string => typeof item === 'string'));
  if (version === undefined) {
    const message = 'The agent and this verifier have no API version in common';
    return { kind: 'refused', event: engineEvent('version_not_supported', message) };
  }
  if (version === agent.supportedVersion) {
    return { kind: 'unreachable', reason: `the agent refuses API version ${version} but offers it` };
  }
  if (!mayChangeApiVersion(agent.supportedVersion, version, agent.attestationCount)) {
    const message = `The agent wants to go back from API version ${agent.supportedVersion} to ${version}`;
    return { kind: 'refused', event: engineEvent('version_not_supported', message) };
  }
  return { kind: 'version_changed', version };
}

const engineEvent = (name: 'no_quote' | 'version_not_supported', message: string): FailureEvent => ({
  eventId: `internal.verifier.${name}`,
  recoverable: false,
  context: { message },
});

const unreachable = (error: unknown): Outcome => ({
  kind: 'unreachable',
  reason: unreachableReason(error),
  ...(isOtherCertificate(error) && { isOtherCertificate: true }),
});
