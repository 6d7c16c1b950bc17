import type { Server as HttpsServer } from 'node:https';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { API_VERSIONS, CURRENT_API_VERSION } from '@keylime/api/versions';
import { bad, good } from '@keylime/core/parsed';
import { LANES } from '@keylime/ima/extend-memory';
import { caOptionsOf } from '@keylime/pki/ca-options';
import { decodeStoredPolicyInSteps } from '@keylime/policies/runtime-policy';
import type { CaConfig, VerifierConfig } from '@keylime/service/config';
import { openDatabase } from '@keylime/service/database';
import { parseDatabaseUrl } from '@keylime/service/database-url';
import { openAgentClients } from '@keylime/service/http-agent-client';
import { type ListenAddress, listenOn } from '@keylime/service/http-listen';
import { forVersions } from '@keylime/service/http-routes';
import { buildHttpServer } from '@keylime/service/http-server';
import type { Log } from '@keylime/service/log';
import { migrate } from '@keylime/service/migrate';
import { runStepsInTurns } from '@keylime/service/steps-in-turns';
import { changeServerTls } from '@keylime/service/tls';
import { type TlsWatch, watchTls } from '@keylime/service/tls-watch';
import { writeGroup } from '@keylime/service/write-group';
import type { Agent } from './agent.ts';
import { agentConnection, postToAgentOf } from './agent-connection.ts';
import { sqlAgentStore } from './agent-store.ts';
import type { AppraisalTask } from './appraisal-worker.ts';
import { type BootPolicySettings, openBootPolicies } from './boot-policies.ts';
import { systemClock } from './clock.ts';
import { openEngine } from './engine.ts';
import { judgeHereOrElsewhere } from './judge-elsewhere.ts';
import { decodeStoredMbPolicy } from './mb-policy.ts';
import { verifierMigrations } from './migrations.ts';
import { sqlDeadLetters } from './notifications/dead-letters.ts';
import { openNotifications } from './notifications/open-notifications.ts';
import { openRevocationSigner, rotateOnTime } from './notifications/revocation-signer.ts';
import { acquireOwnership } from './ownership.ts';
import { readPolicyKeys } from './policy-keys.ts';
import { openPolicyRegistry } from './policy-registry.ts';
import { PolicyNotSignedError, signatureProblem } from './policy-signature.ts';
import { sqlPolicyStore } from './policy-store.ts';
import { openPush, pushPath } from './push/open-push.ts';
import { openRegistrar } from './registrar-client.ts';
import { agentRoutes } from './routes/agents.ts';
import { mbPolicyRoutes } from './routes/mb-policies.ts';
import { notificationRoutes } from './routes/notifications.ts';
import { runtimePolicyRoutes } from './routes/runtime-policies.ts';
import { verifyRoutes } from './routes/verify.ts';
import { versionRoutes } from './routes/versions.ts';
import { sealSecrets } from './seal-secrets.ts';
import { readSecretKeys, secretVault } from './secret-vault.ts';
import { settledWithin } from './settled-within.ts';
import { openSteps } from './steps.ts';
import type { VerifierTables } from './tables.ts';
import { openThreadPool } from './thread-pool.ts';
import {
  openTlsMaterial,
  provideTlsMaterial,
  readTlsMaterial,
  type TlsMaterial,
  tlsMaterialFiles,
} from './tls-material.ts';

export type RunningVerifier = {
  readonly address: ListenAddress;
  readonly certificates: TlsWatch;
  /** Resolves if the verifier can not go on; the process is to stop. */
  readonly broken: Promise<Error>;
  /** Finishes what is under way, up to `shutdown_drain_timeout`, and stops. */
  readonly close: () => Promise<void>;
};

export type StartOptions = {
  /** Called with every statement that the database runs. */
  readonly onStatement?: (sql: string) => void;
  /** Other times than ours for a thread with one answer: after `roundMs` the rest of the list waits, after `timeoutMs` it is given up. */
  readonly judging?: { readonly roundMs: number; readonly timeoutMs: number };
  /** Called when an answer is handed over to be judged in a thread. */
  readonly onHandOver?: () => void;
  /** Called after every round. */
  readonly onRound?: (agent: string, outcome: string, durationMs: number) => void;
};

/** A list takes turns with others after a while, as long as it may be: what was judged of it is stored. */
const JUDGING = { roundMs: 5000, timeoutMs: 60_000 };

/** Larger answers are judged one at a time: a thread holds the text of each beside its bytes. */
const MOST_BYTES_SIDE_BY_SIDE = 32 * 1024 * 1024;

/** Folder of the keys that sign notifications, in the work directory. */
const SIGNING_KEYS = 'revocation_keys';
const KEEP_ALIVE_MS = 120_000;
const MAX_CONNECT_MS = 20_000;

/** Opens everything that a verifier needs and starts to attest. @throws what any of it cannot do, in words. */
export async function startVerifier(
  config: VerifierConfig,
  ca: CaConfig,
  log: Log,
  options: StartOptions = {},
): Promise<RunningVerifier> {
  // [compat] Suites of the field look for this text.
  log.info(`Starting Keylime verifier in ${config.mode.toUpperCase()} mode...`);
  log.info(`Current API version: ${CURRENT_API_VERSION}`);
  log.info(`Other supported API versions: ${API_VERSIONS.filter((one) => one !== CURRENT_API_VERSION).join(', ')}`);
  const closers: (() => Promise<unknown>)[] = [];
  /** Closes in the order given, whatever was opened so far. */
  const close = async () => {
    for (const one of closers.splice(0)) await one();
  };
  try {
    const material = await openTlsMaterial(config, ca, log);
    /** Who uses certificates, and wants to hear of others. */
    const usesOfTls: ((fresh: TlsMaterial) => void)[] = [];
    const pinnedKeys = await readPolicyKeys(config.runtime_policy_signature_keys, config.workDir);
    if (config.require_allow_list_signatures && pinnedKeys.length === 0) {
      log.warn('Policies are checked with the keys that come with them: name keys in runtime_policy_signature_keys');
    }
    if (config.tomtou === 'default' && config.ignore_tomtou_errors) {
      log.warn('ignore_tomtou_errors = True makes violations failures, against its name: use tomtou = fail');
    }
    const bootPolicies = await openBootPolicies(bootPolicySettings(config));
    closers.unshift(() => bootPolicies.close());
    const verifierId = config.uuid;
    const secretKeys = await readSecretKeys(config.secret_keys, config.workDir);
    const vault = secretVault(secretKeys, verifierId);
    const { size, overflow } = config.database_pool_sz_ovfl;
    const db = await openDatabase<VerifierTables>({
      url: config.database_url,
      workDir: config.workDir,
      program: 'verifier',
      poolSize: size + overflow,
      ...(options.onStatement && { onStatement: options.onStatement }),
    });
    closers.unshift(() => db.destroy());
    const schema = { program: 'verifier', migrations: verifierMigrations, apply: config.auto_migrate_db } as const;
    const { from, to } = await migrate(db, schema);
    if (from !== to) log.info('Database schema brought up to date', { from, to });
    const ownership = await acquireOwnership({
      db,
      target: parseDatabaseUrl(config.database_url, config.workDir, 'verifier'),
      verifierId,
      waiting: () => log.warn('Another process is this verifier: waiting to take over', { uuid: verifierId }),
    });
    closers.unshift(() => ownership.release());
    const group = writeGroup(db, { maxDelayMs: 10 });
    closers.unshift(() => group.close());
    const write = group.submit;

    const agents = sqlAgentStore(db, write, verifierId, (error) => log.error(error.message));
    const policyStore = sqlPolicyStore(db, write, 'runtime_policies');
    const signatures = { requireSignature: config.require_allow_list_signatures, pinnedKeys };
    const policies = openPolicyRegistry(policyStore, async (stored) => {
      const problem = signatureProblem(stored, signatures);
      if (problem !== undefined) throw new PolicyNotSignedError(stored.name, problem);
      const decoded = await runStepsInTurns(decodeStoredPolicyInSteps(stored.text));
      return decoded.ok ? decoded : bad(decoded.problem[0].message);
    });
    const mbPolicyStore = sqlPolicyStore(db, write, 'mb_policies');
    const mbPolicies = openPolicyRegistry(mbPolicyStore, (stored) => {
      const policy = decodeStoredMbPolicy(stored, bootPolicies);
      if (policy.warning !== undefined) log.warn(policy.warning, { policy: stored.name });
      return good(policy);
    });
    const { sealed, lost } = await sealSecrets(db, write, verifierId, vault);
    if (sealed > 0) log.info(`Secrets of agents were sealed under the new key: ${sealed}`);
    if (lost.length > 0) {
      const event = 'secret_keys: the key of some secrets is missing; add its file again, or enrol these agents anew';
      log.error(event, { agents: lost.length, first: lost[0] });
    }
    const requestMs = config.request_timeout * 1000;
    const clients = openAgentClients({
      clientCertificate: material.client,
      connectTimeoutMs: Math.min(requestMs, MAX_CONNECT_MS),
      headersTimeoutMs: requestMs,
      bodyTimeoutMs: requestMs,
      maxResponseBytes: config.max_upload_size,
      keepAliveMs: KEEP_ALIVE_MS,
      maxIdleConnections: 512,
    });
    closers.unshift(() => clients.close());
    usesOfTls.push(({ client }) => clients.changeCertificate(client));
    const script = new URL('./appraisal-worker.ts', import.meta.url);
    const { judging = JUDGING } = options;
    const pool = openThreadPool<AppraisalTask>({
      script,
      workers: threadsFor(config.max_workers),
      maxWaiting: 32,
      taskTimeoutMs: judging.timeoutMs,
      sideBySide: LANES,
      isAlone: (task) => task.body.length > MOST_BYTES_SIDE_BY_SIDE,
    });
    closers.unshift(() => pool.close());
    // Evidence of strangers never takes the place of an agent's.
    const publicPool = openThreadPool<AppraisalTask>({ script, workers: 1, maxWaiting: 8, taskTimeoutMs: 30_000 });
    closers.unshift(() => publicPool.close());

    const signer = await openRevocationSigner({
      folder: path.join(config.workDir, SIGNING_KEYS),
      vault: secretVault(secretKeys, SIGNING_KEYS),
      certificate: caOptionsOf(ca),
      lifetimeDays: config.revocations.signing_key_lifetime,
      now: new Date(),
    });
    const rotation = await rotateOnTime(signer, log);
    closers.unshift(async () => rotation.close());
    const connect = ({ ip, port, mtlsCert }: Agent) =>
      agentConnection(clients.open({ host: ip, port, pinnedCertificatePem: mtlsCert }));
    const notifications = await openNotifications({
      config,
      ca,
      material,
      usesOfTls,
      db,
      write,
      peersAfter: agents.peersAfter,
      postToAgent: postToAgentOf(agents, connect),
      log,
      clock: systemClock,
    });
    closers.unshift(() => notifications.close());
    const steps = openSteps({
      agents,
      channels: notifications.channels,
      vault,
      signingKey: signer.key,
      wakeNotifier: notifications.wake,
      log,
      clock: systemClock,
    });
    const registrar = openRegistrar(config, material, usesOfTls, log);
    closers.unshift(() => registrar.close());
    const judge = judgeHereOrElsewhere({
      pool,
      bootPolicies,
      roundMs: judging.roundMs,
      ...(options.onHandOver && { onHandOver: options.onHandOver }),
    });
    const judgement = {
      quoteIntervalMs: config.quote_interval * 1000,
      silenceMs: silenceMsOf(config),
      retry: {
        maxRetries: config.max_retries,
        intervalSeconds: config.retry_interval,
        exponential: config.exponential_backoff,
      },
      severity: {
        labels: config.severity_labels,
        rules: config.severity_policy.map(({ event_id: pattern, severity_label: label }) => ({
          matches: (eventId: string) => pattern.test(eventId),
          label,
        })),
      },
      violations: violationsOf(config),
      extendMode: config.ima_extend_mode,
    };
    const engine = openEngine({
      agents,
      steps,
      policies,
      mbPolicies,
      connect,
      judge,
      findRenewed: registrar.findRenewed,
      vault,
      settings: { ...judgement, scheduler: { maxHealthy: 512, maxUnhealthy: 256 } },
      log,
      clock: systemClock,
      ...(options.onRound && { onRound: options.onRound }),
    });
    closers.unshift(() => settledWithin(engine.close(), config.shutdown_drain_timeout * 1000));
    const push = openPush({
      ...{ config, db, write, agents, policies, mbPolicies, steps, judge },
      settings: {
        ...judgement,
        recoversByItself: config.auto_recover_attestation_failures,
        tokenLifetimeMs: config.extend_token_on_attestation ? config.session_lifetime * 1000 : undefined,
        judgeWithinMs: config.verification_timeout === 0 ? undefined : config.verification_timeout * 1000,
      },
      log,
      clock: systemClock,
      ...(options.onRound && { onRound: options.onRound }),
    });
    closers.unshift(() => settledWithin(push.close(), config.shutdown_drain_timeout * 1000));

    const app = buildHttpServer({
      log,
      tls: material.server,
      bodyLimitBytes: config.max_upload_size,
      parseBodyWithoutContentType: true,
      rewritePath: pushPath,
      verifyToken: push.verifyToken,
    });
    const settings = {
      verifierId,
      vault,
      ...signatures,
      log,
      mode: config.mode,
      quoteIntervalSeconds: config.quote_interval,
      silenceMs: judgement.silenceMs,
      enableAgentMtls: config.enable_agent_mtls,
      verifierIp: config.ip,
      verifierPort: config.port,
    };
    versionRoutes(app, config.mode);
    push.routes(app);
    const versions = ['2', ...API_VERSIONS];
    forVersions(app, versions, agentRoutes({ agents, write, policies, mbPolicies, bootPolicies, engine, settings }));
    forVersions(app, versions, runtimePolicyRoutes({ store: policyStore, registry: policies, settings }));
    forVersions(app, versions, mbPolicyRoutes({ store: mbPolicyStore, registry: mbPolicies, bootPolicies }));
    const deadLetters = sqlDeadLetters(db, write, verifierId);
    const { wake, channels, counts } = notifications;
    const { certificates: signingCertificates } = signer;
    forVersions(
      app,
      versions,
      notificationRoutes({
        deadLetters,
        channels,
        counts,
        certificates: signingCertificates,
        wake,
        clock: systemClock,
      }),
    );
    forVersions(app, versions, verifyRoutes({ agents, pool: publicPool, bootPolicies }));
    const address = await listenOn(app, { host: config.ip, port: config.port });
    closers.unshift(() => app.close());
    usesOfTls.push(({ server }) => changeServerTls(app.server as unknown as HttpsServer, server));
    const certificates = watchTls({
      current: material,
      files: tlsMaterialFiles(config),
      renew: () => provideTlsMaterial(config, ca, log),
      load: () => readTlsMaterial(config),
      apply: (fresh) => {
        for (const use of usesOfTls) use(fresh);
      },
      shown: ({ server, client }) => [server.certPem, client.certPem],
      log,
    });
    closers.unshift(async () => certificates.close());
    log.info('Listening', { https: `${address.host}:${address.port}` });
    notifications.wake();
    await engine.start();
    await push.start();
    return { address, certificates, broken: ownership.lost, close };
  } catch (error) {
    await close().catch((closing: unknown) => log.error('Closing after a failed start went wrong', { error: closing }));
    throw error;
  }
}

/** Threads that judge answers which take long: at most so many, 0 for any number, and one processor is left for the rest. */
const threadsFor = (most: number): number =>
  Math.max(1, Math.min(availableParallelism() - 1, most === 0 ? Number.POSITIVE_INFINITY : most));

/** Where the measured-boot policies are, and which is in force. */
export const bootPolicySettings = (config: VerifierConfig): BootPolicySettings => ({
  imports: config.measured_boot_imports,
  workDir: config.workDir,
  defaultRules: config.measured_boot_policy_name,
  evaluate: config.measured_boot_evaluate,
  timeoutMs: config.measured_boot_timeout * 1000,
});

/** Of the intervals at which an agent that pushes is to attest, so many may pass before it is missed. */
const MISSED_INTERVALS = 5;
const LEAST_SILENCE_MS = 2000;

const silenceMsOf = ({ quote_interval: seconds }: VerifierConfig): number =>
  Math.max(LEAST_SILENCE_MS, MISSED_INTERVALS * seconds * 1000);

/** [compat] The old option means the opposite of its name. */
function violationsOf({ tomtou, ignore_tomtou_errors: legacy }: VerifierConfig): 'accept' | 'fail' {
  if (tomtou !== 'default') return tomtou;
  return legacy ? 'fail' : 'accept';
}
