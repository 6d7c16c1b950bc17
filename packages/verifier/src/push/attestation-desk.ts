import { createHash, randomBytes } from 'node:crypto';
import { CapabilitiesAttributes } from '@keylime/api/push-capabilities';
import type { PushProblem, ReceivedResource } from '@keylime/api/push-document';
import { parseBySchema } from '@keylime/api/push-value';
import type { AgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';
import { rateLimiter } from '@keylime/service/rate-limit';
import type { Agent } from '../agent.ts';
import type { AgentStore } from '../agent-store.ts';
import { quotedMask } from '../attest.ts';
import type { Clock } from '../clock.ts';
import { expectationsOf, type JudgementSettings, type PolicySources, policiesOf } from '../expectations.ts';
import type { Attestation } from './attestation.ts';
import type { AttestationStore } from './attestation-store.ts';
import { collectEvidence, repeatsQuote } from './collect.ts';
import { negotiate, type Wanted } from './negotiate.ts';
import { enrolledAk } from './proof.ts';
import { PushRefusal } from './refusal.ts';

export type DeskParts = PolicySources & {
  readonly agents: Pick<AgentStore, 'findOfAnyVerifier'>;
  readonly attestations: AttestationStore;
  readonly settings: JudgementSettings & { readonly intervalMs: number; readonly challengeLifetimeMs: number };
  /** Evidence of this agent waits for its verdict. */
  readonly wake: (id: AgentId) => void;
  readonly log: Log;
  readonly clock: Clock;
};

/** Takes what agents send by themselves, and judges nothing: an answer is there at once, whatever the evidence. */
export type AttestationDesk = {
  /** @throws PushRefusal */
  readonly open: (id: AgentId, attributes: { readonly [name: string]: Json }) => Promise<Attestation>;
  /** Counts evidence of the agent, before it is read. @throws PushRefusal */
  readonly admitEvidence: (id: AgentId) => void;
  /** @throws PushRefusal */
  readonly submit: (id: AgentId, number: number | 'latest', evidence: ReceivedResource) => Promise<Attestation>;
  /** Whole seconds after which the agent is to attest again. */
  readonly secondsToNext: (attestation: Attestation) => number;
};

const CHALLENGE_BYTES = 32;
/** An agent may be a little early: its clock is another one. */
const EARLY_MS = 500;
/** What one agent may begin, and as often may it send evidence: enough for one that is restarted over and over. */
const PER_AGENT = { burst: 20, perMinute: 30 };
/** A verdict takes less, but for the longest lists. */
const VERDICT_SECONDS = 2;

const refusal = (status: PushProblem['status'], code: string, detail: string, retryAfterSeconds?: number) =>
  new PushRefusal({ status, code, detail }, retryAfterSeconds);

export function openAttestationDesk(parts: DeskParts): AttestationDesk {
  const { agents, attestations, settings, log, clock } = parts;
  const beginnings = rateLimiter({ rate: PER_AGENT, now: () => clock.now() });
  const submissions = rateLimiter({ rate: PER_AGENT, now: () => clock.now() });

  async function attester(id: AgentId): Promise<Agent> {
    const agent = await agents.findOfAnyVerifier(id);
    if (agent === undefined) throw refusal(404, 'not_found', `Agent ${id} is not enrolled`);
    const disabled = (detail: string) => refusal(403, 'agent_attestations_disabled', detail);
    if (agent.mode === 'pull') {
      throw disabled(`Agent ${id} is enrolled to be polled (mode = pull): delete it and add it again to push evidence`);
    }
    if (agent.state === 'tenantFailed') throw disabled(`Attestation of agent ${id} was stopped: reactivate it`);
    return agent;
  }

  /** [MUST] Evidence is judged one after the other, and not more often than it is wanted (05 section 5.1). */
  function checkPace(id: AgentId, latest: Attestation | undefined): void {
    if (latest?.stage === 'evaluating_evidence') {
      throw refusal(503, 'verification_in_progress', 'The last evidence is still being verified', VERDICT_SECONDS);
    }
    const waitMs = (latest?.evidenceAtMs ?? Number.NEGATIVE_INFINITY) + settings.intervalMs - clock.now();
    if (waitMs > EARLY_MS) {
      const seconds = Math.ceil(waitMs / 1000);
      throw refusal(429, 'premature_attestation', `The next attestation is wanted in ${seconds} seconds`, seconds);
    }
    const wait = beginnings.take(id);
    if (wait !== undefined) throw refusal(429, 'premature_attestation', 'Too many attestations were begun', wait);
  }

  /** Where the policy must not be used, a quote is taken all the same, as of any agent, and its verdict says why it failed. */
  async function wantedOf(agent: Agent): Promise<Wanted> {
    const expectations = expectationsOf(agent, settings);
    const wanted = { ak: expectations.ak, accepted: agent.accepted, progress: agent.progress };
    const policies = await policiesOf(agent, parts);
    if (!policies.ok) return { ...wanted, mask: 0, uefiLog: false, policyChecksum: '' };
    const { runtimePolicy, measuredBoot } = policies.value;
    const mask = quotedMask(expectations, runtimePolicy, measuredBoot);
    return { ...wanted, mask, uefiLog: measuredBoot !== undefined, policyChecksum: runtimePolicy.checksum };
  }

  return {
    async open(id, attributes) {
      const agent = await attester(id);
      const latest = await attestations.latest(id);
      checkPace(id, latest);
      const parsed = parseBySchema(CapabilitiesAttributes, attributes);
      if (!parsed.ok) {
        const path = parsed.problem.pointer.replace(/^\/evidence_supported/, '/evidence') || '/evidence';
        const detail = `Attribute '${path.split('/')[1]}' ${parsed.problem.problem}`;
        throw new PushRefusal({
          ...{ status: 422, code: 'invalid_resource_data', detail },
          pointer: `/data/attributes${path}`,
        });
      }
      const negotiated = negotiate(parsed.value, await wantedOf(agent), randomBytes(CHALLENGE_BYTES));
      if (!negotiated.ok) {
        log.warn('What an agent offers does not do', { agent: id, reason: negotiated.problem.detail });
        throw new PushRefusal(negotiated.problem);
      }
      const capabilitiesAtMs = clock.now();
      const opened = await attestations.open(
        {
          agentId: id,
          verifierId: agent.verifierId,
          ...negotiated.value,
          capabilitiesAtMs,
          challengeExpiresAtMs: capabilitiesAtMs + settings.challengeLifetimeMs,
        },
        latest,
      );
      if (opened === undefined) throw refusal(409, 'conflict', 'Another attestation of this agent began meanwhile');
      return opened;
    },

    admitEvidence(id) {
      const wait = submissions.take(id);
      if (wait !== undefined) throw refusal(429, 'premature_attestation', 'Evidence was sent too often', wait);
    },

    async submit(id, number, evidence) {
      const agent = await attester(id);
      const latest = await attestations.latest(id);
      if (latest === undefined) throw refusal(404, 'not_found', `Agent ${id} has no attestation`);
      if (number !== 'latest' && number !== latest.number) {
        throw refusal(403, 'old_attestation', `The newest attestation is ${latest.number}: only it takes evidence`);
      }
      const isOpen = latest.stage === 'awaiting_evidence';
      if (isOpen && clock.now() >= latest.challengeExpiresAtMs) throw expired();
      const isEvidence = evidence.type === 'attestation';
      if (!isOpen && !(isEvidence && repeatsQuote(evidence.attributes, latest.collected))) throw immutable();
      if (!isEvidence) {
        // [compat] So existing agents say that they could not do what was asked for.
        log.warn('An agent could not collect its evidence', { agent: id, type: evidence.type.slice(0, 40) });
        throw refusal(400, 'invalid_request', 'The resource is not of type attestation');
      }
      const read = collectEvidence(evidence.attributes, latest.chosen, enrolledAk(agent));
      if (!read.ok) {
        if (!isOpen) throw immutable();
        log.warn('Evidence of an agent is malformed', { agent: id, reason: read.problem.detail });
        throw new PushRefusal(read.problem);
      }
      const { collected, body } = read.value;
      const digest = createHash('sha256').update(body).digest('hex');
      // Its first answer may have been lost: the same again changes nothing.
      if (!isOpen && latest.evidenceDigest === digest) return latest;
      if (!isOpen) throw immutable();
      const atMs = clock.now();
      const taken = await attestations.submit(latest, { atMs, digest, collected, body });
      const now = await attestations.find(id, latest.number);
      if (!taken && now?.evidenceDigest !== digest) throw now?.stage === 'awaiting_evidence' ? expired() : immutable();
      parts.wake(id);
      return now ?? latest;
    },

    secondsToNext: ({ evidenceAtMs = 0 }) =>
      Math.max(0, Math.round((evidenceAtMs + settings.intervalMs - clock.now()) / 1000)),
  };
}

const expired = () => refusal(403, 'challenges_expired', 'The challenge is not good any more: send capabilities again');
const immutable = () => refusal(403, 'evidence_immutable', 'The attestation has its evidence already');
