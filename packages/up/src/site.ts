import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort } from '@keylime/service/free-port';
import { listens } from './listens.ts';
import { type Operator, openOperator } from './operator.ts';
import { CA_FOLDER, caEnvironment } from './payload.ts';
import { execute, programOf, type Service, startService } from './process.ts';
import { until } from './until.ts';
import { startWebhookReceiver, type WebhookReceiver } from './webhook-receiver.ts';

export type SiteOptions = {
  /** Everything is kept here. */
  readonly folder: string;
  /** Seconds between two attestations of a machine. */
  readonly quoteIntervalSeconds: number;
  /** How many verifiers share the database; 1 if not given. */
  readonly verifiers?: number;
  /** Who starts attestations; `pull` if not given. Push agents get no payload, and hear revocations over ZeroMQ. */
  readonly model?: 'pull' | 'push';
  /** `database_url` of verifiers and registrar, which may share a PostgreSQL; if not given, SQLite for each. */
  readonly databaseUrl?: string;
};

/** What an operator runs: registrar, verifiers, a receiver of notifications, and the tools. */
export type Site = {
  readonly folder: string;
  /** Of the CA of the services. */
  readonly caFile: string;
  readonly registrarPort: number;
  /** What agents need to know that attest by themselves, to each verifier; `undefined` if they do not. */
  readonly push: PushSite | undefined;
  readonly operator: Operator;
  readonly webhook: WebhookReceiver;
  /** Resolves with the reason if one of the services ends by itself. */
  readonly broken: Promise<Error>;
  readonly logFiles: readonly string[];
  /** Trusts the maker of a TPM. */
  readonly trust: (name: string, certificatePem: string) => Promise<void>;
  /** Runs `keylime_tenant` with these arguments, against the verifier of this number. */
  readonly tenant: (
    args: readonly string[],
    verifier?: number,
  ) => Promise<{ readonly code: number; readonly output: string }>;
  /** What to put before `keylime_tenant` to do it by hand. */
  readonly tenantEnvironment: Readonly<Record<string, string>>;
  readonly stop: () => Promise<void>;
};

export type PushSite = {
  readonly verifierUrls: readonly string[];
  readonly zeromqPort: number;
  /** Certificates that the verifier signs revocations under. */
  readonly revocationCerts: string;
};

export async function startSite(options: SiteOptions): Promise<Site> {
  const { folder, quoteIntervalSeconds, verifiers = 1, databaseUrl, model = 'pull' } = options;
  await using opened = new AsyncDisposableStack();
  const database = databaseUrl === undefined ? '' : `database_url = ${databaseUrl}\n`;
  const settings = caEnvironment(folder);
  const services = join(folder, 'services');
  const logs = join(folder, 'logs');
  const store = join(services, 'tpm_cert_store');
  for (const one of [services, logs, store]) await mkdir(one, { recursive: true, mode: 0o700 });
  const running: Service[] = [];
  async function start(program: 'verifier' | 'registrar', name: string, port: number, text: string) {
    const file = join(folder, `${name}.conf`);
    await writeFile(file, text, { mode: 0o600 });
    const env = { ...settings, KEYLIME_DIR: services, [`KEYLIME_${program.toUpperCase()}_CONFIG`]: file };
    const service = startService(name, programOf(program), { env, logFile: join(logs, `${name}.log`) });
    opened.defer(service.stop);
    running.push(service);
    const what = `the ${name} to be ready (${service.logFile})`;
    await until(() => listens(port), what, { broken: service.ended });
  }

  // The receiver needs the certificate that the first verifier makes, and the verifiers need the receiver's address.
  const webhookPort = await freePort();
  const ports = { registrar: await freePort(), registrarTls: await freePort() };
  const zeromqPort = await freePort();
  const channels =
    model === 'pull'
      ? `['agent', 'webhook']\ncrl_dir = ${join(folder, CA_FOLDER)}\n`
      : `['webhook', 'zeromq']\nzmq_port = ${zeromqPort}\n`;
  const verifierPorts: number[] = [];
  for (let n = 0; n < verifiers; n++) {
    const port = await freePort();
    verifierPorts.push(port);
    const name = verifiers === 1 ? 'verifier' : `verifier-${n + 1}`;
    await start(
      'verifier',
      name,
      port,
      `[verifier]\nuuid = ${name}\nport = ${port}\nquote_interval = ${quoteIntervalSeconds}\n` +
        `registrar_port = ${ports.registrarTls}\n` +
        // A machine that starts again is asked every second for a minute.
        `retry_interval = 1\nmax_retries = 60\nmeasured_boot_policy_name = strict\nmode = ${model}\n` +
        database +
        `[revocations]\nwebhook_url = https://127.0.0.1:${webhookPort}/\nenabled_revocation_notifications = ${channels}`,
    );
  }
  const caFolder = join(services, 'cv_ca');
  const read = (name: string) => readFile(join(caFolder, name), 'utf8');
  const tls = { cert: await read('server-cert.crt'), key: await read('server-private.pem') };
  const webhook = await startWebhookReceiver(tls, webhookPort);
  opened.defer(webhook.stop);
  await start(
    'registrar',
    'registrar',
    ports.registrarTls,
    `[registrar]\nport = ${ports.registrar}\ntls_port = ${ports.registrarTls}\n${database}`,
  );
  const operator = await openOperator(caFolder, { registrar: ports.registrarTls, verifiers: verifierPorts });
  opened.defer(operator.close);

  const tenantConf = join(folder, 'tenant.conf');
  await writeFile(
    tenantConf,
    `[tenant]\nverifier_port = ${verifierPorts[0]}\nregistrar_port = ${ports.registrarTls}\ntpm_cert_store = ${store}\n`,
  );
  const tenantEnvironment = { ...settings, KEYLIME_DIR: services, KEYLIME_TENANT_CONFIG: tenantConf };
  const tenant: Site['tenant'] = async (args, verifier = 0) => {
    const all = [programOf('tenant'), '--cvport', String(verifierPorts[verifier]), ...args];
    const result = await execute(process.execPath, all, tenantEnvironment);
    await appendFile(join(logs, 'tenant.log'), result.output);
    return result;
  };
  const verifierUrls = verifierPorts.map((port) => `https://127.0.0.1:${port}`);
  const push =
    model === 'push'
      ? { verifierUrls, zeromqPort, revocationCerts: await writeRevocationCerts(folder, tenant) }
      : undefined;
  const stopping = opened.move();
  return {
    folder,
    push,
    caFile: join(caFolder, 'cacert.crt'),
    registrarPort: ports.registrar,
    operator,
    webhook,
    broken: Promise.race(running.map(({ ended }) => ended)),
    logFiles: running.map(({ logFile }) => logFile),
    trust: (name, pem) => writeFile(join(store, `${name}.pem`), pem),
    tenant,
    tenantEnvironment,
    stop: () => stopping.disposeAsync(),
  };
}

async function writeRevocationCerts(folder: string, tenant: Site['tenant']): Promise<string> {
  const { code, output } = await tenant(['-c', 'revocationcerts']);
  const certificates = output.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g);
  if (code !== 0 || certificates === null) throw new Error(`keylime_tenant -c revocationcerts failed:\n${output}`);
  const file = join(folder, 'verifier-certs.pem');
  await writeFile(file, certificates.join(''));
  return file;
}
