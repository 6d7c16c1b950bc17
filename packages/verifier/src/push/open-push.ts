import { PUSH_VERSIONS } from '@keylime/api/push-document';
import type { VerifierConfig } from '@keylime/service/config';
import type { VerifyToken } from '@keylime/service/http-authorization';
import { forVersions } from '@keylime/service/http-routes';
import type { FastifyInstance } from 'fastify';
import type { Kysely } from 'kysely';
import type { AgentStore, GroupWrite } from '../agent-store.ts';
import type { VerifierTables } from '../tables.ts';
import { openAttestationDesk } from './attestation-desk.ts';
import { attestationRoutes } from './attestation-routes.ts';
import { sqlAttestationStore } from './attestation-store.ts';
import { type EvaluatorParts, openEvaluator } from './evaluator.ts';
import { openPushWatch } from './push-watch.ts';
import { sessionRoutes } from './session-routes.ts';
import { sqlSessionStore } from './session-store.ts';
import { openSessions } from './sessions.ts';

/** The push protocol of one verifier. */
export type Push = {
  readonly verifyToken: VerifyToken;
  readonly routes: (app: FastifyInstance) => void;
  /** Judges what waits, and begins to miss who is silent. */
  readonly start: () => Promise<void>;
  readonly close: () => Promise<void>;
};

export type PushParts = Omit<EvaluatorParts, 'agents' | 'attestations' | 'sessions'> & {
  readonly config: VerifierConfig;
  readonly db: Kysely<VerifierTables>;
  readonly write: GroupWrite;
  readonly agents: AgentStore;
};

/**
 * [compat] The path that an existing agent means: one whose `verifier_url` ends in a slash puts another behind it (05 section
 * 1 of the reference). Other routes know no such paths.
 */
export const pushPath = (path: string): string =>
  /^\/+v3(\.0)?\//.test(path) ? path.replace(/^[^?#]*/, (before) => before.replaceAll(/\/{2,}/g, '/')) : path;

/** Nothing is begun before `start`. With `mode = pull`, tokens can be had, and attestations have no routes. */
export function openPush(parts: PushParts): Push {
  const { config, db, write, agents, settings, log, clock } = parts;
  const attestations = sqlAttestationStore(db, write);
  const sessionStore = sqlSessionStore(db, write);
  const sessions = openSessions({
    store: sessionStore,
    agents,
    settings: {
      challengeLifetimeMs: config.nonce_lifetime * 1000,
      tokenLifetimeMs: config.session_lifetime * 1000,
      perAddress: {
        count: config.session_create_rate_limit_per_ip,
        windowSeconds: config.session_create_rate_limit_window_ip,
      },
      wrongProofs: {
        count: config.session_create_rate_limit_per_agent,
        windowSeconds: config.session_create_rate_limit_window_agent,
      },
    },
    clock,
    log,
  });
  const evaluator = openEvaluator({ ...parts, attestations, sessions: sessionStore });
  const desk = openAttestationDesk({
    ...parts,
    attestations,
    settings: {
      ...settings,
      intervalMs: settings.quoteIntervalMs,
      challengeLifetimeMs: config.challenge_lifetime * 1000,
    },
    wake: evaluator.wake,
  });
  let watch: Awaited<ReturnType<typeof openPushWatch>> | undefined;
  return {
    verifyToken: sessions.verifyToken,
    routes(app) {
      forVersions(app, PUSH_VERSIONS, sessionRoutes(sessions));
      if (config.mode === 'push') {
        forVersions(app, PUSH_VERSIONS, attestationRoutes({ desk, agents, attestations }));
      }
    },
    async start() {
      watch = await openPushWatch({
        ...{ verifierId: config.uuid, agents, attestations, sessions: sessionStore },
        ...{ steps: parts.steps, settings, remind: evaluator.remind, log, clock },
      });
    },
    async close() {
      await watch?.close();
      await evaluator.close();
    },
  };
}
