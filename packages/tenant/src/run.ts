import path from 'node:path';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { caOptionsOf } from '@keylime/pki/ca-options';
import { askCaPassword } from '@keylime/service/ca-password';
import { tenantCertificates } from '@keylime/service/certificate-paths';
import type { ConfigSource } from '@keylime/service/config';
import { type CaConfig, ConfigError, loadCaConfig, loadTenantConfig, type TenantConfig } from '@keylime/service/config';
import { type Log, logNotes, openLog } from '@keylime/service/log';
import { didYouMean } from '@keylime/service/nearest';
import { parseArguments, UsageError } from './argv.ts';
import { COMMANDS } from './commands.ts';
import { type ClientTls, openAgent, openServer, readClientTls } from './connect.ts';
import type { Connection } from './connection.ts';
import { helpText, USAGE } from './help.ts';
import { type Arguments, OPTIONS, type Option } from './options.ts';
import type { Output } from './output.ts';
import { openProgress, type Terminal } from './progress.ts';
import { serverApi } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';
import { usageProblem } from './usage.ts';

/** [compat] The id of an agent whose `agent.conf` does not say another. */
export const DEFAULT_AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';

/** The process around the command. */
export type Environment = {
  readonly source: ConfigSource;
  readonly stdout: { readonly write: (text: string) => unknown };
  readonly stderr: Terminal;
  readonly version: string;
  readonly now?: () => number;
  readonly sleep?: (ms: number) => Promise<unknown>;
  /** Asks the operator for a password; the terminal when left out. */
  readonly askPassword?: (question: string) => Promise<string>;
};

/** Runs one command line; the exit code: 0 done, 1 failed, 2 usage (spec 07 section 3.1). Throws only for our mistakes. */
export async function run(argv: readonly string[], environment: Environment): Promise<number> {
  let given: Arguments;
  try {
    given = parseArguments(argv);
    if (given.help || given.version) {
      environment.stdout.write(given.help ? `${helpText()}\n` : `keylime_tenant ${environment.version}\n`);
      return 0;
    }
    const problem = usageProblem(given);
    if (problem !== undefined) throw new UsageError(problem);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    environment.stderr.write(`${USAGE}\nkeylime_tenant: error: ${error.message}\n`);
    return 2;
  }
  let config: TenantConfig;
  let log: Log;
  const progress = openProgress(environment.stderr);
  const write = (text: string) => {
    progress.clear();
    environment.stdout.write(text);
  };
  try {
    const loaded = loadTenantConfig(environment.source);
    config = loaded.config;
    log = openLog({
      name: 'keylime.tenant',
      ...config.log,
      destination: { write },
      ...(environment.now ? { now: environment.now } : {}),
    });
    logNotes(log, loaded.notes);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    environment.stderr.write(`keylime_tenant: ${error.message}\n`);
    return 1;
  }
  const connections: Connection[] = [];
  try {
    const name = given.command ?? 'add';
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (command === undefined) {
      throw new TenantError(
        'invalid_argument',
        `Invalid command specified: ${name}${didYouMean(name, Object.keys(COMMANDS))}`,
      );
    }
    refuseUnsupported(given);
    if (given.supportedVersion !== undefined) log.warn('--supported-version is deprecated: use --agent-api-version');
    const output = { log, print: (line: string) => write(`${line}\n`), progress: progress.show };
    await command.run(await tenantOf(given, config, output, environment, connections));
    return 0;
  } catch (error) {
    if (!(error instanceof TenantError || error instanceof ConfigError)) throw error;
    log.error(error.message);
    return 1;
  } finally {
    progress.clear();
    await Promise.all(connections.map((connection) => connection.close()));
  }
}

/** An option that would be ignored is refused: what was asked for would silently not happen. */
function refuseUnsupported(given: Arguments): void {
  for (const [name, option] of Object.entries(OPTIONS as { readonly [name: string]: Option })) {
    const value = given[name as keyof Arguments];
    const isGiven = Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false;
    if (option.unsupported === undefined || !isGiven) continue;
    const flag = option.flags.find((one) => one.startsWith('--')) ?? option.flags[0];
    throw new TenantError('unsupported', `${flag}: ${option.unsupported} is not supported by this version yet`);
  }
}

async function tenantOf(
  given: Arguments,
  config: TenantConfig,
  output: Output,
  environment: Environment,
  connections: Connection[],
): Promise<Tenant> {
  const { log } = output;
  const id = agentIdOf(given);
  const requestTimeoutMs = config.request_timeout * 1000;
  const paths = tenantCertificates(config);
  let tls: ClientTls | undefined;
  const client = () => {
    tls ??= readClientTls(paths);
    return tls;
  };
  const keep = <T extends Connection>(connection: T): T => {
    connections.push(connection);
    return connection;
  };
  const server = (kind: 'verifier' | 'registrar', host: string, port: string, serverId?: string) =>
    serverApi({
      kind,
      host,
      port,
      id: serverId,
      log,
      connection: keep(
        openServer({
          kind,
          host,
          port,
          client: client(),
          checkHostName: !given.noHostnameCheck,
          timeoutMs: requestTimeoutMs,
        }),
      ),
    });
  const once = <T>(make: () => T): (() => T) => {
    let made: { readonly value: T } | undefined;
    return () => {
      made ??= { value: make() };
      return made.value;
    };
  };
  const ca = once((): CaConfig => {
    const { config: settings, notes } = loadCaConfig(environment.source);
    logNotes(log, notes);
    return settings;
  });
  return {
    given,
    output,
    agentId: once(() => {
      if (given.uuid === undefined) log.warn(`Using default UUID ${DEFAULT_AGENT_ID}: name the agent with -u`);
      return id;
    }),
    verifier: once(() => {
      const port = portOf(given.verifierPort ?? String(config.verifier_port), '-vp');
      return server('verifier', given.verifierHost ?? config.verifier_ip, port, given.verifierId);
    }),
    registrar: once(() => {
      const port = portOf(given.registrarPort ?? String(config.registrar_port), '-rp');
      return server('registrar', given.registrarHost ?? config.registrar_ip, port);
    }),
    connectAgent: (address) =>
      keep(openAgent({ ...address, port: portOf(address.port, '-tp'), client: client(), timeoutMs: requestTimeoutMs })),
    ek: {
      requireEkCert: config.require_ek_cert,
      certStore: path.resolve(config.workDir, config.tpm_cert_store),
      script: config.ek_check_script,
      workDir: config.workDir,
      testMode: config.testMode,
      environment: environment.source.env,
      now: new Date((environment.now ?? Date.now)()),
    },
    accepted: {
      hash: config.accept_tpm_hash_algs,
      encryption: config.accept_tpm_encryption_algs,
      signing: config.accept_tpm_signing_algs,
    },
    enableAgentMtls: config.enable_agent_mtls,
    payloads: {
      maxPayloadBytes: config.max_payload_size,
      certificates: {
        defaultDir: path.join(config.workDir, 'ca'),
        options: () => caOptionsOf(ca()),
        password: () => askCaPassword(ca(), log, environment.askPassword),
        serviceCas: () => client().serverCas,
        now: new Date((environment.now ?? Date.now)()),
        log,
      },
    },
    retries: {
      attempts: Math.max(1, config.max_retries),
      intervalSeconds: config.retry_interval,
      exponential: config.exponential_backoff,
      ...(environment.sleep ? { sleep: environment.sleep } : {}),
    },
    requestTimeoutMs,
    mbReferenceFile: config.mb_refstate && path.resolve(config.workDir, config.mb_refstate),
  };
}

function agentIdOf({ uuid }: Arguments): AgentId {
  const id = parseAgentId(uuid ?? DEFAULT_AGENT_ID);
  if (id !== undefined) return id;
  throw new TenantError(
    'invalid_argument',
    `The agent ID ${JSON.stringify(uuid)} uses invalid characters or is too long: 1 to 80 of A-Z a-z 0-9 _ . -`,
  );
}

function portOf(text: string, flag: string): string {
  if (/^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535) return text;
  throw new TenantError('invalid_argument', `${flag}: ${JSON.stringify(text)} is no port number`);
}
