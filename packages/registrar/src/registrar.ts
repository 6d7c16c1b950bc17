import { randomUUID } from 'node:crypto';
import type { AgentId } from '@keylime/core/agent-id';
import type { Certificate } from '@keylime/identity/certificate';
import type { Log } from '@keylime/service/log';
import { rateLimiter } from '@keylime/service/rate-limit';
import { TpmKeyError } from '@keylime/tpm/public';
import type { ActiveAgent, AgentStore } from './agent-store.ts';
import { type Challenge, digestOfTag, makeChallenge, sameTag } from './challenge.ts';
import type { Limits } from './limits.ts';
import { type CompleteRegistration, carriesKeys, changesIdentity, EMPTY_REGISTRATION } from './registration.ts';
import { judgeRegistration, type RegistrationPolicy, type RegistrationProblem } from './registration-checks.ts';
import { parseRegistration } from './registration-request.ts';
import { registrationProblemText, registrationWarningText } from './registration-text.ts';

/** `retryAfter` counts seconds. */
export type TooMany = { readonly kind: 'too_many'; readonly retryAfter: number };

export type RegistrationOutcome =
  | { readonly kind: 'challenged'; readonly blob: Buffer }
  | { readonly kind: 'identity_changed' }
  | { readonly kind: 'invalid'; readonly problems: readonly RegistrationProblem[] }
  | TooMany;

export type ActivationOutcome =
  | { readonly kind: 'activated' }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'tag_mismatch' }
  | { readonly kind: 'identity_taken' }
  | TooMany;

export type FoundAgent =
  | { readonly kind: 'active'; readonly agent: ActiveAgent }
  | { readonly kind: 'pending' }
  | { readonly kind: 'unknown' };

/** `source` is the sender's address (`addressKey`); nothing else is known of who registers and activates. */
export type Registrar = {
  readonly register: (agentId: AgentId, body: unknown, source: string) => Promise<RegistrationOutcome>;
  readonly activate: (agentId: AgentId, tag: string, source: string) => Promise<ActivationOutcome>;
  readonly find: (agentId: AgentId) => Promise<FoundAgent>;
  readonly list: () => Promise<readonly string[]>;
  readonly remove: (agentId: AgentId) => Promise<boolean>;
};

/**
 * The registrar without its HTTP. Whatever an unproven sender says is staged beside the active record, which is served and
 * stays as it is until the TPM of the staged registration has answered its challenge (spec README, hole 3; 02 G4).
 */
export function makeRegistrar(parts: {
  readonly store: AgentStore;
  readonly policy: RegistrationPolicy;
  /** Asked for when a request carries certificates of a device identity. */
  readonly anchors: () => Promise<readonly Certificate[]>;
  readonly limits: Limits;
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}): Registrar {
  const { store, policy, limits, log, now } = parts;
  const perAddress = rateLimiter({ rate: limits.perAddress, now });
  const perAgentAndAddress = rateLimiter({ rate: limits.perAgentAndAddress, now });
  const wrongTags = rateLimiter({ rate: limits.wrongTags, now });

  // A flood must not fill the log too.
  const floodNotes = rateLimiter({ rate: { burst: 1, perMinute: 1 }, now });
  const tooMany = (retryAfter: number, agentId: AgentId, source: string): TooMany => {
    if (floodNotes.take(source) === undefined) {
      log.warn('Too many requests of one address are refused', { agent: agentId, source, retry_after: retryAfter });
    }
    return { kind: 'too_many', retryAfter };
  };
  const challengeFor = (agentId: AgentId, registration: CompleteRegistration): Challenge | RegistrationProblem => {
    try {
      return makeChallenge(agentId, registration);
    } catch (error) {
      if (error instanceof TpmKeyError) return { kind: 'key_malformed', key: 'ek', detail: error.message };
      throw error;
    }
  };
  const invalid = (agentId: AgentId, problems: readonly RegistrationProblem[]): RegistrationOutcome => {
    log.warn('Registration refused', { agent: agentId, problems: problems.map(registrationProblemText) });
    return { kind: 'invalid', problems };
  };

  return {
    async register(agentId, body, source) {
      const wait = perAddress.take(source) ?? perAgentAndAddress.take(`${agentId} ${source}`);
      if (wait !== undefined) return tooMany(wait, agentId, source);
      const request = parseRegistration(body);
      if (!request.ok) return invalid(agentId, request.problem);
      const active = await store.find(agentId);
      if (active !== undefined && changesIdentity(active.registration, request.value.fields)) {
        log.warn('Registration with another TPM identity refused', { agent: agentId, source });
        return { kind: 'identity_changed' };
      }
      const base = active?.registration ?? EMPTY_REGISTRATION;
      const time = now();
      const { iakCertificate, idevidCertificate } = request.value.fields;
      const anchors = iakCertificate || idevidCertificate ? await parts.anchors() : [];
      const judgement = judgeRegistration({
        agentId,
        request: request.value,
        base,
        policy,
        anchors,
        now: new Date(time),
      });
      if (!judgement.ok) return invalid(agentId, judgement.problems);
      const challenge = challengeFor(agentId, judgement.registration);
      if ('kind' in challenge) return invalid(agentId, [challenge]);
      for (const warning of judgement.warnings) log.warn(registrationWarningText(warning), { agent: agentId });
      await store.stage(
        {
          key: randomUUID(),
          agentId,
          source,
          registration: judgement.registration,
          counts: carriesKeys(request.value.fields),
          tagDigest: challenge.tagDigest,
          createdAt: time,
          expiresAt: time + limits.challengeLifetimeMs,
        },
        limits,
      );
      log.info('Agent registered, its activation is awaited', { agent: agentId, source });
      return { kind: 'challenged', blob: challenge.blob };
    },

    async activate(agentId, tag, source) {
      const wait = perAddress.take(source);
      if (wait !== undefined) return tooMany(wait, agentId, source);
      const time = now();
      const given = digestOfTag(tag);
      const pending = await store.pending(agentId, time);
      const answered = pending.filter(({ tagDigest }) => sameTag(tagDigest, given))[0];
      if (answered !== undefined) {
        const promotion = await store.promote(answered, time);
        if (promotion === 'activated') {
          log.info('Agent activated', { agent: agentId, source });
          return { kind: 'activated' };
        }
        if (promotion === 'identity_taken') {
          log.warn('Activation refused: another TPM was activated under this id meanwhile', { agent: agentId, source });
          return { kind: 'identity_taken' };
        }
      }
      const active = await store.find(agentId);
      // An agent whose answer got lost asks again. Nothing is changed by it.
      const repeated = active !== undefined && sameTag(active.tagDigest, given);
      if (repeated && time < active.activatedAt + limits.challengeLifetimeMs) return { kind: 'activated' };
      if (active === undefined && pending.length === 0) return { kind: 'unknown' };
      const waitAfterWrong = wrongTags.take(`${agentId} ${source}`);
      if (waitAfterWrong !== undefined) return tooMany(waitAfterWrong, agentId, source);
      await store.dropPending(agentId, source);
      log.warn('Wrong auth tag: what this address has registered for the agent is dropped', { agent: agentId, source });
      return { kind: 'tag_mismatch' };
    },

    async find(agentId) {
      const agent = await store.find(agentId);
      if (agent !== undefined) return { kind: 'active', agent };
      return (await store.pending(agentId, now())).length > 0 ? { kind: 'pending' } : { kind: 'unknown' };
    },

    list: () => store.list(now()),

    async remove(agentId) {
      const removed = await store.remove(agentId);
      if (removed) log.info('Agent removed', { agent: agentId });
      return removed;
    },
  };
}
