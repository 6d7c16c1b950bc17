import { parseResourceAnswer, resourceRequest } from '@keylime/api/push-document';
import { collectedAttributes, NOTHING_COLLECTED, secondsToNextAttestation } from '@keylime/api/push-evidence';
import { NegotiatedAttributes, type RequestedEvidence } from '@keylime/api/push-parameters';
import { parseBySchema } from '@keylime/api/push-value';
import type { AgentId } from '@keylime/core/agent-id';
import { AgentError } from './agent-error.ts';
import { type EvidenceSources, type OfferSettings, offeredAttributes } from './push-capabilities.ts';
import { PushError } from './push-error.ts';
import { collectEvidence } from './push-evidence.ts';
import type { PushSession } from './push-session.ts';
import type { VerifierAnswer } from './verifier-client.ts';

/** What came of an attempt. The verifier does not tell its verdict. */
export type Delivered = {
  /** Number of the attestation, as the verifier counts. */
  readonly index: string;
  /** How many pieces of evidence it wanted; it may want none. */
  readonly evidence: number;
  /** When it wants the next one; `undefined` if it does not say. */
  readonly nextInSeconds: number | undefined;
};

/**
 * Attests once: says what this machine can show, collects what the verifier chooses, and sends it (spec 05 sections 5 and 6).
 * @throws PushError; AgentError `tpm_identity_changed`.
 */
export async function attestOnce(options: {
  readonly agentId: AgentId;
  readonly session: PushSession;
  readonly sources: EvidenceSources;
  readonly settings: OfferSettings;
  readonly verifierUrl: string;
}): Promise<Delivered> {
  const { agentId, session, sources, settings, verifierUrl } = options;
  const path = `/v3.0/agents/${agentId}/attestations`;
  const offered = await fromThisMachine(() => offeredAttributes(sources, settings));
  const json = resourceRequest('attestation', offered);
  const answer = await session.request({ method: 'POST', path, json });
  if (answer.status !== 201) throw refused('capabilities_refused', answer, agentId);
  const requested = requestedEvidence(answer);
  const index = attestationIndex(answer.location, { path, verifierUrl });
  if (requested.length === 0) return { index, evidence: 0, nextInSeconds: undefined };

  const send = (type: 'attestation' | 'error', attributes: object) =>
    session.request({ method: 'PATCH', path: `${path}/${index}`, json: resourceRequest(type, attributes) });
  let evidence: Awaited<ReturnType<typeof collectEvidence>>;
  try {
    evidence = await fromThisMachine(() => collectEvidence(requested, sources));
  } catch (cause) {
    // The verifier is told that nothing will come; what it answers does not matter.
    await send('error', NOTHING_COLLECTED).catch(() => undefined);
    throw cause;
  }
  const taken = await send('attestation', collectedAttributes(evidence));
  if (taken.status !== 202 && taken.status !== 200) throw refused('evidence_refused', taken, agentId);
  return { index, evidence: evidence.length, nextInSeconds: secondsToNextAttestation(taken.body) };
}

function requestedEvidence({ body }: VerifierAnswer): readonly RequestedEvidence[] {
  const attributes = parseBySchema(NegotiatedAttributes, parseResourceAnswer(body)?.attributes);
  if (attributes.ok) return attributes.value.evidence_requested;
  const { pointer, problem } = attributes.problem;
  throw new PushError('answer_malformed', `The verifier's choice of evidence cannot be read: ${pointer} ${problem}`);
}

/**
 * The index in the header `Location`, of which nothing else is used. [MUST] One that leads to another host or to another path
 * than `path` is refused (section 11.4). [compat] Doubled slashes, and versions as verifiers write them.
 */
export function attestationIndex(
  location: string | undefined,
  { path, verifierUrl }: { readonly path: string; readonly verifierUrl: string },
): string {
  const url = URL.parse(location?.replace(/^\/{2,}/, '/') ?? '', verifierUrl);
  const [, resource, index] =
    /^\/v?3(?:\.0)?(\/.*)\/(\d{1,15})$/.exec(url?.pathname.replace(/\/{2,}/g, '/') ?? '') ?? [];
  const isOwn = url?.origin === new URL(verifierUrl).origin && path === `/v3.0${resource}`;
  if (isOwn && index !== undefined) return index;
  throw new PushError('answer_malformed', `The verifier's answer leads to no attestation of this agent: ${location}`);
}

function refused(
  otherwise: 'capabilities_refused' | 'evidence_refused',
  answer: VerifierAnswer,
  agentId: string,
): PushError {
  const { status, text } = answer;
  if (status === 403 || status === 404) {
    return new PushError('attestation_refused', `The verifier takes no attestation of agent ${agentId}: ${text}`);
  }
  const what = otherwise === 'capabilities_refused' ? 'what this machine can show' : 'the evidence as it came';
  return new PushError(otherwise, `The verifier does not take ${what}: ${text}`);
}

/** What this machine cannot do now it may be able to do the next time; but another TPM is no matter of time. */
async function fromThisMachine<T>(use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (cause) {
    if (cause instanceof PushError) throw cause;
    if (cause instanceof AgentError && cause.code === 'tpm_identity_changed') throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PushError('evidence_unavailable', `Evidence cannot be collected now: ${why}`, { cause });
  }
}
