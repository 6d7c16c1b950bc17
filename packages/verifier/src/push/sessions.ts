import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { parseAgentId } from '@keylime/core/agent-id';
import type { VerifyToken } from '@keylime/service/http-authorization';
import type { Log } from '@keylime/service/log';
import { rateLimiter } from '@keylime/service/rate-limit';
import type { AgentStore } from '../agent-store.ts';
import type { Clock } from '../clock.ts';
import { akNameOf, type Proof, verifyProof } from './proof.ts';
import type { PendingSession, SessionStore } from './session-store.ts';

export type SessionSettings = {
  readonly challengeLifetimeMs: number;
  readonly tokenLifetimeMs: number;
  /** Sessions that one address may begin in the window; as many may it answer. */
  readonly perAddress: { readonly count: number; readonly windowSeconds: number };
  /** Wrong proofs for one agent from one address in the window. */
  readonly wrongProofs: { readonly count: number; readonly windowSeconds: number };
};

export type SessionParts = {
  readonly store: SessionStore;
  readonly agents: Pick<AgentStore, 'findOfAnyVerifier'>;
  readonly settings: SessionSettings;
  readonly clock: Clock;
  readonly log: Log;
};

export type Begun =
  | { readonly kind: 'begun'; readonly session: PendingSession }
  | { readonly kind: 'too_many'; readonly retryAfterSeconds: number };

export type Proved =
  | { readonly kind: 'unknown' | 'other_agent' | 'already_active' }
  | { readonly kind: 'too_many'; readonly retryAfterSeconds: number }
  | { readonly kind: 'expired' | 'not_enrolled' | 'wrong'; readonly session: PendingSession; readonly atMs: number }
  | {
      readonly kind: 'proved';
      readonly session: PendingSession;
      readonly atMs: number;
      readonly token: string;
      readonly tokenExpiresAtMs: number;
    };

/**
 * Sessions of agents that send evidence by themselves (05 section 4 of the reference). Whoever asks gets a challenge, whoever
 * answers it with the enrolled AK a token. [MUST] Nothing costs more than a hash and a row before something was proved, and
 * nobody locks out an agent by its name: limits are for addresses, and wrong proofs end nothing but the session that they are
 * for. Who shares the agent's address, or has enough of them for the limit of all, can delay its login.
 */
export type Sessions = {
  /** Counts a request of an address, before anything of it is read; the seconds that it has to wait if it sent too many. */
  readonly admit: (what: 'begin' | 'prove', address: string) => number | undefined;
  readonly begin: (agentId: string) => Promise<Begun>;
  readonly prove: (sessionId: string, agentId: string, proof: Proof | undefined, address: string) => Promise<Proved>;
  readonly verifyToken: VerifyToken;
};

/** Sessions that all together may begin in a minute: as many may wait for their proof at once. */
const PER_MINUTE_IN_ALL = 20_000;
const CHALLENGE_BYTES = 16;
const SECRET_BYTES = 32;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

const perMinute = ({ count, windowSeconds }: SessionSettings['perAddress']) => ({
  burst: count,
  perMinute: (count * 60) / windowSeconds,
});

export function openSessions({ store, agents, settings, clock, log }: SessionParts): Sessions {
  const now = () => clock.now();
  const addresses = {
    begin: rateLimiter({ rate: perMinute(settings.perAddress), now }),
    prove: rateLimiter({ rate: perMinute(settings.perAddress), now }),
  };
  const all = rateLimiter({ rate: { burst: PER_MINUTE_IN_ALL, perMinute: PER_MINUTE_IN_ALL }, now });
  const wrongProofs = rateLimiter({ rate: perMinute(settings.wrongProofs), now });

  return {
    admit: (what, address) => addresses[what].take(address),

    async begin(agentId) {
      const wait = all.take('');
      if (wait !== undefined) return { kind: 'too_many', retryAfterSeconds: wait };
      const createdAtMs = now();
      const session = {
        id: randomUUID(),
        agentId,
        challenge: randomBytes(CHALLENGE_BYTES),
        createdAtMs,
        challengeExpiresAtMs: createdAtMs + settings.challengeLifetimeMs,
      };
      await store.add(session);
      return { kind: 'begun', session };
    },

    async prove(sessionId, agentId, proof, address) {
      const session = UUID.test(sessionId) ? await store.find(sessionId) : undefined;
      if (session === undefined) return { kind: 'unknown' };
      if (session.agentId !== agentId) return { kind: 'other_agent' };
      if (session.proved !== undefined) return { kind: 'already_active' };
      const source = `${address} ${agentId}`;
      const wait = wrongProofs.take(source);
      if (wait !== undefined) return { kind: 'too_many', retryAfterSeconds: wait };
      const atMs = now();
      const refuse = async (kind: 'expired' | 'not_enrolled' | 'wrong', reason: string): Promise<Proved> => {
        log.warn('An agent was refused a session', { agent: agentId, from: address, reason });
        await store.refuse(sessionId);
        return { kind, session, atMs };
      };
      if (atMs > session.challengeExpiresAtMs) return refuse('expired', 'the challenge expired');
      const id = parseAgentId(agentId);
      const agent = id && (await agents.findOfAnyVerifier(id));
      if (agent === undefined) return refuse('not_enrolled', 'it is not enrolled');
      const verified = verifyProof(proof, agent, session.challenge);
      if (!verified.ok) return refuse('wrong', verified.problem);
      wrongProofs.giveBack(source);
      const token = `${session.id}.${randomBytes(SECRET_BYTES).toString('base64url')}`;
      const tokenExpiresAtMs = atMs + settings.tokenLifetimeMs;
      const proved = { tokenHash: sha256(token), tokenExpiresAtMs, akName: verified.value };
      if (!(await store.accept(session, proved))) return { kind: 'already_active' };
      log.info('An agent opened a session', { agent: agentId, session: session.id });
      return { kind: 'proved', session, atMs, token, tokenExpiresAtMs };
    },

    async verifyToken(token) {
      const dot = token.indexOf('.');
      const sessionId = token.slice(0, Math.max(0, dot));
      const session = UUID.test(sessionId) ? await store.find(sessionId) : undefined;
      if (session === undefined) return 'Invalid authentication token';
      if (session.proved === undefined) return 'Authentication session not active';
      const { tokenHash, tokenExpiresAtMs, akName } = session.proved;
      if (!equal(tokenHash, sha256(token))) return 'Invalid authentication token';
      if (now() > tokenExpiresAtMs) return 'Authentication token expired';
      const id = parseAgentId(session.agentId);
      const agent = id && (await agents.findOfAnyVerifier(id));
      // [MUST] Enrolled anew with another AK, it is another machine.
      if (agent === undefined || akNameOf(agent) !== akName) return 'Invalid authentication token';
      return { agentId: agent.id };
    },
  };
}

/** The token holds 256 random bits: there is nothing to stretch. */
const sha256 = (token: string): string => createHash('sha256').update(token).digest('hex');

const equal = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
