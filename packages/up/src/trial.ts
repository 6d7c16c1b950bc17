import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from '@keylime/service/free-port';
import { startMachine } from './machine.ts';
import { openOperator } from './operator.ts';
import { execute, type Service, startService } from './process.ts';
import { startWebhookReceiver } from './webhook-receiver.ts';

/** The whole system on one machine: services, a machine with a software TPM and its agent, an operator, a webhook. */
export type Trial = {
  readonly agentId: string;
  /** Milliseconds from the start of the agent until the registrar knew and believed its TPM. */
  readonly registeredMs: number;
  /** Resolves with the reason if one of the programs ends by itself. */
  readonly broken: Promise<Error>;
  /** Runs `keylime_tenant` with these arguments. */
  readonly tenant: (...args: readonly string[]) => Promise<{ readonly code: number; readonly output: string }>;
  /** The verifier's word on the agent. */
  readonly status: () => Promise<{ readonly [key: string]: unknown } | undefined>;
  readonly machine: Awaited<ReturnType<typeof startMachine>>;
  readonly webhook: Awaited<ReturnType<typeof startWebhookReceiver>>;
  /** What to put before `keylime_tenant` to do it by hand. */
  readonly tenantCommand: string;
  readonly logFiles: readonly string[];
  readonly stop: () => Promise<void>;
};

const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';
/** A tmpfs on Linux. */
const MEMORY = '/dev/shm';
const POLL_MS = 10;
const START_TIMEOUT_MS = 60_000;

const mainOf = (program: string) => fileURLToPath(new URL(`../../${program}/src/main.ts`, import.meta.url));

/** Starts everything in `folder`, which is emptied first. `say` hears what is being done. */
export async function startTrial(
  folder: string,
  quoteIntervalSeconds: number,
  say: (text: string) => void,
): Promise<Trial> {
  await rm(folder, { recursive: true, force: true });
  const services = join(folder, 'services');
  // The agent keeps payloads in memory, and only root could mount some.
  const agentFolder = await mkdtemp(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'keylime-up-'));
  const store = join(services, 'tpm_cert_store');
  for (const one of [services, agentFolder, store, join(folder, 'logs')])
    await mkdir(one, { recursive: true, mode: 0o700 });
  const closers: (() => Promise<void>)[] = [() => removeAgentFolder(agentFolder)];
  const stop = async () => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  const running: Service[] = [];
  try {
    say('Making a software TPM');
    const machine = await startMachine(join(folder, 'machine'));
    closers.push(machine.stop);
    for (const [n, pem] of machine.tpmMakerCertificates.entries()) await writeFile(join(store, `maker-${n}.pem`), pem);

    const ports = {
      verifier: await freePort(),
      registrar: await freePort(),
      registrarTls: await freePort(),
      agent: await freePort(),
    };
    const file = async (name: string, text: string) => {
      await writeFile(join(folder, name), text, { mode: 0o600 });
      return join(folder, name);
    };
    const start = async (name: string, env: Readonly<Record<string, string>>, ready: () => Promise<boolean>) => {
      const service = startService(name, mainOf(name), { env, logFile: join(folder, 'logs', `${name}.log`) });
      closers.push(service.stop);
      running.push(service);
      await until(ready, service.ended, `the ${name} to be ready (${service.logFile})`);
    };

    const webhookPort = await freePort();
    say('Starting the verifier and the registrar');
    // The receiver needs the certificate that the verifier makes, and the verifier needs the receiver's address.
    const settings = await file(
      'verifier.conf',
      `[verifier]\nport = ${ports.verifier}\nquote_interval = ${quoteIntervalSeconds}\n` +
        `[revocations]\nenabled_revocation_notifications = ['webhook']\nwebhook_url = https://127.0.0.1:${webhookPort}/\n`,
    );
    const common = { KEYLIME_DIR: services };
    await start('verifier', { ...common, KEYLIME_VERIFIER_CONFIG: settings }, () => listens(ports.verifier));
    const caFolder = join(services, 'cv_ca');
    const webhook = await startWebhookReceiver(
      {
        cert: await readFile(join(caFolder, 'server-cert.crt'), 'utf8'),
        key: await readFile(join(caFolder, 'server-private.pem'), 'utf8'),
      },
      webhookPort,
    );
    closers.push(webhook.stop);
    const registrarConf = await file(
      'registrar.conf',
      `[registrar]\nport = ${ports.registrar}\ntls_port = ${ports.registrarTls}\n`,
    );
    await start('registrar', { ...common, KEYLIME_REGISTRAR_CONFIG: registrarConf }, () => listens(ports.registrarTls));
    const operator = await openOperator(caFolder, { registrar: ports.registrarTls, verifier: ports.verifier });
    closers.push(operator.close);

    say('Starting the agent');
    const agentConf = await file(
      'agent.conf',
      `[agent]\nuuid = "${AGENT_ID}"\nip = "127.0.0.1"\nport = ${ports.agent}\ncontact_ip = "127.0.0.1"\ncontact_port = ${ports.agent}\n` +
        `registrar_ip = "127.0.0.1"\nregistrar_port = ${ports.registrar}\nrun_as = ""\n` +
        `trusted_client_ca = ${JSON.stringify(join(caFolder, 'cacert.crt'))}\nima_ml_path = ${JSON.stringify(machine.measurementList)}\n`,
    );
    const agentStarted = performance.now();
    let registeredMs = 0;
    await start(
      'agent',
      { KEYLIME_DIR: agentFolder, KEYLIME_AGENT_CONFIG: agentConf, TCTI: machine.tcti },
      async () => {
        if (registeredMs === 0 && (await operator.read('registrar', `/v2.6/agents/${AGENT_ID}`)) !== undefined) {
          registeredMs = performance.now() - agentStarted;
        }
        return registeredMs !== 0 && (await listens(ports.agent));
      },
    );

    const tenantConf = await file(
      'tenant.conf',
      `[tenant]\nverifier_port = ${ports.verifier}\nregistrar_port = ${ports.registrarTls}\ntpm_cert_store = ${store}\n`,
    );
    const tenantEnv = { ...common, KEYLIME_TENANT_CONFIG: tenantConf };
    return {
      agentId: AGENT_ID,
      registeredMs,
      broken: Promise.race(running.map(({ ended }) => ended)),
      tenant: (...args) => execute(process.execPath, [mainOf('tenant'), ...args], tenantEnv),
      status: () => operator.read('verifier', `/v2.6/agents/${AGENT_ID}`),
      machine,
      webhook,
      tenantCommand: `KEYLIME_DIR=${services} KEYLIME_TENANT_CONFIG=${tenantConf} npx keylime_tenant`,
      logFiles: running.map(({ logFile }) => logFile),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** An agent of root's has mounted memory there if `MEMORY` is none. */
async function removeAgentFolder(folder: string): Promise<void> {
  await execute('umount', [join(folder, 'secure')], {});
  await rm(folder, { recursive: true, force: true });
}

/** Polls until `condition` holds; rejects if a service ends or time runs out. */
export async function until(condition: () => Promise<boolean>, ended: Promise<Error>, what: string): Promise<void> {
  let fault: Error | undefined;
  void ended.then((error) => {
    fault = error;
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await condition())) {
    if (fault !== undefined) throw fault;
    if (performance.now() > deadline) throw new Error(`Waited ${START_TIMEOUT_MS / 1000} s in vain for ${what}.`);
    await sleep(POLL_MS);
  }
}

async function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
