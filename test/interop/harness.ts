import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:https';
import { basename, join } from 'node:path';
import { encodeEventLog } from '@keylime/event-log/encode';
import { type Boot, bootEvents, goodBoot } from '@keylime/software-tpm/boot';
import { makeBootCertificates } from '@keylime/software-tpm/boot-certificates';
import { measureBoot } from '@keylime/software-tpm/measure-boot';
import { type Environments, type Ports, type Settings, writeConfiguration } from './configuration.ts';
import { launcher, type Maker, type Model, type Part } from './launchers.ts';
import { type MeasurementRecorder, startRecorder } from './measurement-recorder.ts';
import { type Finished, freePorts, type Launch, type Program, runProgram, startProgram, waitFor } from './processes.ts';
import { type ManufacturedTpm, startSoftwareTpm } from './software-tpm.ts';

export type Combination = Readonly<Record<Part, Maker>>;

/** One site: registrar, verifier, an agent on its machine with a software TPM, and the tenant at hand. */
export type Site = {
  readonly combination: Combination;
  readonly agentId: string;
  readonly ports: Ports;
  readonly servicesFolder: string;
  readonly recorder: MeasurementRecorder;
  /** File with the boot event log. */
  readonly bootLog: string;
  /** Writes the log of another boot than the one that was measured, or that one again. */
  readonly serveBootLog: (changes: Partial<Boot>) => Promise<void>;
  readonly programs: Readonly<Partial<Record<Part, Program>>>;
  /** Bodies of the webhook calls received, decoded. */
  readonly notifications: readonly unknown[];
  readonly startServices: () => Promise<void>;
  readonly startAgent: () => Promise<void>;
  /** Ends the verifier, and starts it again. */
  readonly restartVerifier: () => Promise<void>;
  readonly tenant: (...args: readonly string[]) => Promise<Finished>;
  /** GET with the client certificate of `cv_ca`; status and decoded body. */
  readonly get: (port: number, path: string) => Promise<{ readonly status: number; readonly body: unknown }>;
  readonly [Symbol.asyncDispose]: () => Promise<void>;
};

const json = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/**
 * Receives revocation notifications; answers 200. With the server certificate of `cv_ca`, since the existing verifier speaks
 * TLS to a webhook whatever the scheme of its URL.
 */
async function startWebhook(servicesFolder: string, port: number, received: unknown[]): Promise<() => void> {
  const file = (name: string) => readFile(join(servicesFolder, 'cv_ca', name));
  const [cert, key] = await Promise.all(['server-cert.crt', 'server-private.pem'].map(file));
  const server = createServer({ cert, key }, async (incoming, answer) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    received.push(json(Buffer.concat(chunks).toString()));
    answer.end();
  }).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return () => {
    server.close();
    server.closeAllConnections();
  };
}

/** The agent's secure mount, made here so that it is also removed here. Throws if mounting is not allowed. */
async function secureMount(agentFolder: string): Promise<() => Promise<void>> {
  const folder = join(agentFolder, 'secure');
  await mkdir(folder, { recursive: true });
  const mounted = await runProgram({
    command: 'mount',
    args: ['-t', 'tmpfs', '-o', 'size=1m,mode=0700', 'tmpfs', folder],
  });
  if (mounted.code !== 0) throw new Error(`a tmpfs cannot be mounted here: ${mounted.stderr.trim()}`);
  return async () => {
    await runProgram({ command: 'umount', args: ['-l', folder] });
  };
}

async function adminGet(servicesFolder: string, port: number, path: string): ReturnType<Site['get']> {
  const file = (name: string) => readFile(join(servicesFolder, 'cv_ca', name));
  const [ca, cert, key] = await Promise.all(['cacert.crt', 'client-cert.crt', 'client-private.pem'].map(file));
  const call = request({ host: '127.0.0.1', port, path, ca, cert, key, agent: false, timeout: 10_000 });
  call.on('timeout', () => call.destroy(new Error('no answer within 10 s')));
  call.end();
  const [answer] = await once(call, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk);
  return { status: answer.statusCode ?? 0, body: json(Buffer.concat(chunks).toString()) };
}

export type SiteOptions = {
  readonly folder: string;
  readonly tpm: ManufacturedTpm;
  readonly combination: Combination;
  readonly model: Model;
  readonly quoteIntervalSeconds?: number;
  readonly verifierWorkers?: number;
};

/**
 * Lays out a site in `folder`: TPM started, list empty, configuration written, no program started yet. Disposing of the
 * site ends every process and mount; the folder with the logs is left. Throws for a part that cannot be started here.
 */
export async function openSite(options: SiteOptions): Promise<Site> {
  const undo = new AsyncDisposableStack();
  try {
    return await layOut(options, undo);
  } catch (cause) {
    await undo.disposeAsync();
    throw cause;
  }
}

async function layOut(
  { folder, tpm, combination, model, ...options }: SiteOptions,
  undo: AsyncDisposableStack,
): Promise<Site> {
  const launchOf = (part: Part): Launch => {
    const launch = launcher(part, combination[part], model);
    if ('missing' in launch) throw new Error(launch.missing);
    return launch;
  };
  const path = (...names: readonly string[]) => join(folder, ...names);
  await Promise.all(['services', 'agent', 'store', 'logs'].map((name) => mkdir(path(name), { recursive: true })));
  await cp(tpm.state, path('tpm'), { recursive: true });
  undo.defer(() => rm(path('tpm'), { recursive: true, force: true }));
  for (const file of tpm.endorsers) await cp(file, path('store', basename(file)));
  const software = await startSoftwareTpm(path('tpm'), path('logs', 'swtpm.log'));
  undo.defer(software.stop);
  const recorder = await startRecorder(path('measurements'), software.port);
  const bootLog = path('binary_bios_measurements');
  const boot = goodBoot(await makeBootCertificates());
  const measured = encodeEventLog(['sha256'], bootEvents(boot));
  await measureBoot(software.tcti, measured);
  await writeFile(bootLog, measured);
  const notifications: unknown[] = [];
  // Root's agents would mount it themselves and leave it behind.
  if (process.getuid?.() === 0) undo.defer(await secureMount(path('agent')));

  const [verifier = 0, registrar = 0, registrarTls = 0, agent = 0, webhook = 0] = await freePorts(5);
  const ports: Ports = { verifier, registrar, registrarTls, agent };
  const settings: Settings = {
    model,
    ports,
    servicesFolder: path('services'),
    agentFolder: path('agent'),
    certStore: path('store'),
    measurementList: recorder.list,
    bootLog,
    agentId: randomUUID(),
    webhookUrl: `https://127.0.0.1:${webhook}/revocation`,
    quoteIntervalSeconds: options.quoteIntervalSeconds ?? 1,
    verifierWorkers: options.verifierWorkers ?? 1,
  };
  const env: Environments = await writeConfiguration(path('config'), settings);
  const programs: Partial<Record<Part, Program>> = {};
  const start = async (part: Part, environment: Record<string, string>) => {
    const launch = launchOf(part);
    const program = await startProgram(part, { ...launch, env: environment, cwd: folder }, path('logs', `${part}.log`));
    undo.defer(program.stop);
    programs[part] = program;
    return program;
  };
  const get: Site['get'] = (port, where) => adminGet(settings.servicesFolder, port, where);
  const serves = async (part: Part, port: number) => {
    const probe = () =>
      get(port, '/version').then(
        // 410: the existing verifier tells no versions where agents attest by themselves.
        ({ status }) => (status === 200 || status === 410 ? true : undefined),
        () => undefined,
      );
    await waitFor(`the ${part} answers`, probe, { timeoutMs: 60_000, program: await start(part, env.services) });
  };
  return {
    combination,
    agentId: settings.agentId,
    ports,
    servicesFolder: settings.servicesFolder,
    recorder,
    bootLog,
    serveBootLog: (changes) => writeFile(bootLog, encodeEventLog(['sha256'], bootEvents({ ...boot, ...changes }))),
    programs,
    notifications,
    // The verifier makes the common CA, so it is first.
    startServices: async () => {
      await serves('verifier', ports.verifier);
      undo.defer(await startWebhook(settings.servicesFolder, webhook, notifications));
      await serves('registrar', ports.registrarTls);
    },
    startAgent: async () => {
      await start('agent', { ...env.agent, TCTI: software.tcti });
    },
    restartVerifier: async () => {
      await programs.verifier?.stop();
      await serves('verifier', ports.verifier);
    },
    tenant: (...args) => {
      const { command, args: first } = launchOf('tenant');
      return runProgram({ command, args: [...first, ...args], env: env.services, cwd: folder });
    },
    get,
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}
