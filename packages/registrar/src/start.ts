import type { Server as HttpsServer } from 'node:https';
import path from 'node:path';
import { CURRENT_API_VERSION } from '@keylime/api/versions';
import type { CaConfig, RegistrarConfig } from '@keylime/service/config';
import { openDatabase } from '@keylime/service/database';
import { type ListenAddress, listenAll } from '@keylime/service/http-listen';
import { buildHttpServer } from '@keylime/service/http-server';
import type { Log } from '@keylime/service/log';
import { migrate } from '@keylime/service/migrate';
import { changeServerTls } from '@keylime/service/tls';
import { type TlsWatch, watchTls } from '@keylime/service/tls-watch';
import { writeGroup } from '@keylime/service/write-group';
import { DEFAULT_LIMITS, type Limits } from './limits.ts';
import { makeRegistrar } from './registrar.ts';
import { registrarRoutes, SUPPORTED_VERSIONS } from './routes.ts';
import { type RegistrarTables, registrarMigrations } from './schema.ts';
import { openServerTls, provideServerTls, serverTlsFiles } from './server-tls.ts';
import { sqlAgentStore } from './sql-agent-store.ts';
import { trustFolder } from './trust-folder.ts';

export type RunningRegistrar = {
  /** Where agents register over plain HTTP. */
  readonly plain: ListenAddress;
  readonly tls: ListenAddress;
  readonly certificates: TlsWatch;
  /** Answers what has been asked, writes what has been answered, then stops. */
  readonly close: () => Promise<void>;
};

/** Registrations are small; who cannot send one in this time is holding a connection. */
const TIMEOUTS = { headersMs: 10_000, requestMs: 20_000, idleMs: 20_000 };

/** Opens the database, the certificates and both ports of a registrar. @throws what any of them cannot do, in words. */
export async function startRegistrar(
  config: RegistrarConfig,
  ca: CaConfig,
  log: Log,
  options: {
    readonly limits?: Partial<Limits>;
    readonly now?: () => number;
    readonly timeouts?: Partial<typeof TIMEOUTS>;
  } = {},
): Promise<RunningRegistrar> {
  const { now = Date.now } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  log.info('Starting Keylime registrar...');
  log.info(`Current API version: ${CURRENT_API_VERSION}`);
  const others = SUPPORTED_VERSIONS.filter((version) => version !== CURRENT_API_VERSION);
  log.info(`Other supported API versions: ${others.join(', ')}`);

  const provideTls = () => provideServerTls(config, ca, log);
  await provideTls();
  const tls = await openServerTls(config);
  const { size, overflow } = config.database_pool_sz_ovfl;
  const db = await openDatabase<RegistrarTables>({
    url: config.database_url,
    workDir: config.workDir,
    program: 'registrar',
    poolSize: size + overflow,
  });
  const writes = writeGroup(db, { maxDelayMs: 1 });
  const closeDatabase = async () => {
    await writes.close();
    await db.destroy();
  };
  try {
    const { from, to } = await migrate(db, {
      program: 'registrar',
      migrations: registrarMigrations,
      apply: config.auto_migrate_db,
    });
    if (from !== to) log.info('Database schema brought up to date', { from, to });
    const registrar = makeRegistrar({
      store: sqlAgentStore(db, writes),
      policy: {
        tpmIdentity: config.tpm_identity === 'default' ? 'ek_cert_or_iak_idevid' : config.tpm_identity,
        malformedCertAction: config.malformed_cert_action,
      },
      anchors: trustFolder({ folder: path.resolve(config.workDir, config.tpm_cert_store), log, now }),
      limits,
      log,
      now,
    });
    const bodyLimitBytes = Math.min(limits.bodyBytes, config.max_upload_size);
    const build = (serverTls?: typeof tls) => {
      const timeouts = { ...TIMEOUTS, ...options.timeouts };
      const app = buildHttpServer({ log, tls: serverTls, bodyLimitBytes, timeouts });
      registrarRoutes(app, registrar);
      return app;
    };
    const tlsApp = build(tls);
    const { addresses, close } = await listenAll([
      { app: build(), address: { host: config.ip, port: config.port } },
      { app: tlsApp, address: { host: config.ip, port: config.tls_port } },
    ]);
    const [plain, secure] = addresses;
    if (plain === undefined || secure === undefined) throw new Error('two servers were to listen');
    log.info('Listening', { http: `${plain.host}:${plain.port}`, https: `${secure.host}:${secure.port}` });
    const watch = watchTls({
      current: tls,
      files: serverTlsFiles(config),
      renew: provideTls,
      load: () => openServerTls(config),
      apply: (fresh) => changeServerTls(tlsApp.server as unknown as HttpsServer, fresh),
      shown: ({ certPem }) => [certPem],
      log,
      now,
    });
    return {
      plain,
      tls: secure,
      certificates: watch,
      async close() {
        watch.close();
        await close();
        await closeDatabase();
      },
    };
  } catch (error) {
    await closeDatabase();
    throw error;
  }
}
