import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { codeOf } from '@keylime/core/coded-error';

const run = promisify(execFile);

/** A running software TPM. swtpm serves one data connection at a time: close one before opening the next. */
export type Swtpm = {
  /** For `openTransport` and the variable TCTI. */
  readonly tcti: string;
  /** Port of the data channel at 127.0.0.1; 0 for a Unix socket. */
  readonly port: number;
  /** State, and with certificates the CA's folder. */
  readonly dir: string;
  /** The certificates (PEM) of the CA that signed the EK certificates: issuer, then root. Empty without certificates. */
  readonly caCertificates: readonly string[];
  /** Power failure: SIGKILL, and all volatile state is gone. */
  readonly kill: () => Promise<void>;
  /** Starts it again with the same state, at the same address: a reboot of the machine, in good order after `shutDown`. */
  readonly restart: () => Promise<void>;
  /** Ends it and removes its folder, unless the caller gave one. */
  readonly stop: () => Promise<void>;
};

export type SwtpmOptions = {
  /** Keeps the TPM's state between calls; by default a folder that `stop` removes. */
  readonly dir?: string;
  /** Active PCR banks, `['sha256']` by default. */
  readonly banks?: readonly string[];
  /** EK (RSA 2048, P-384) and platform certificates in NV, by a CA in `dir`; takes a second. Default true. */
  readonly certificates?: boolean;
  readonly socket?: 'tcp' | 'unix';
  /** Whether it waits for INIT on the control channel (data port + 1, or path + `.ctrl`). Default false. */
  readonly needInit?: boolean;
};

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

const missing = (cause: unknown): Error =>
  new Error('swtpm is not installed: on Debian or Ubuntu, apt-get install swtpm swtpm-tools', { cause });

const isNotFound = (error: unknown): boolean => codeOf(error) === 'ENOENT';

/** A CA of this TPM's own, so that nothing is read from or written to the system's. */
async function writeCaConfig(dir: string): Promise<string> {
  const ca = join(dir, 'ca');
  await mkdir(ca, { recursive: true });
  const caConfig = join(ca, 'swtpm-localca.conf');
  await writeFile(
    caConfig,
    `statedir = ${ca}\nsigningkey = ${ca}/signkey.pem\nissuercert = ${ca}/issuercert.pem\ncertserial = ${ca}/certserial\n`,
  );
  await writeFile(
    join(ca, 'swtpm-localca.options'),
    '--platform-manufacturer test\n--platform-version 1\n--platform-model test\n',
  );
  const config = join(ca, 'swtpm_setup.conf');
  await writeFile(
    config,
    `create_certs_tool=swtpm_localca\ncreate_certs_tool_config=${caConfig}\ncreate_certs_tool_options=${ca}/swtpm-localca.options\n`,
  );
  return config;
}

async function setUp(
  state: string,
  dir: string,
  { banks = ['sha256'], certificates = true }: SwtpmOptions,
): Promise<void> {
  await mkdir(state, { recursive: true });
  const config = await writeCaConfig(dir);
  const withCertificates = certificates
    ? ['--createek', '--create-ek-cert', '--create-platform-cert', '--lock-nvram']
    : [];
  const settings = ['--tpm2', '--tpmstate', state, '--config', config, '--pcr-banks', banks.join(',')];
  try {
    await run('swtpm_setup', [...settings, ...withCertificates]);
  } catch (cause) {
    if (isNotFound(cause)) throw missing(cause);
    const output = cause instanceof Error && 'stdout' in cause ? String(cause.stdout) : '';
    throw new Error(`swtpm_setup failed: ${output}`, { cause });
  }
}

/** A port that was free a moment ago, and the next one too. */
async function freePort(): Promise<number> {
  for (;;) {
    const servers = [createServer(), createServer()] as const;
    try {
      servers[0].listen(0, '127.0.0.1');
      await once(servers[0], 'listening');
      const address = servers[0].address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      if (port > 65533) continue;
      servers[1].listen(port + 1, '127.0.0.1');
      await once(servers[1], 'listening');
      return port;
    } catch {
      // the next port is taken: try another pair
    } finally {
      for (const server of servers) server.close();
    }
  }
}

type Address = { readonly path: string } | { readonly port: number };

const listens = (address: Address): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect('path' in address ? { path: address.path } : { host: '127.0.0.1', port: address.port });
    const done = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });

const START_ATTEMPTS = 500;

/** Starts the emulator and waits until it listens, on its last socket to open. */
async function launch(state: string, address: Address, needInit: boolean): Promise<ChildProcess> {
  const at = (extra: 0 | 1) =>
    'path' in address
      ? `type=unixio,path=${address.path}${extra === 1 ? '.ctrl' : ''}`
      : `type=tcp,bindaddr=127.0.0.1,port=${address.port + extra}`;
  const flags = needInit ? [] : ['--flags', 'not-need-init,startup-clear'];
  const child = spawn(
    'swtpm',
    ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--server', at(0), '--ctrl', at(1), ...flags],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let errors = '';
  child.stderr?.on('data', (chunk) => {
    errors += String(chunk);
  });
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (cause) => reject(isNotFound(cause) ? missing(cause) : cause));
    child.once('exit', (code) => reject(new Error(`swtpm ended with ${code} before it listened: ${errors}`)));
  });
  const ready = async () => {
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      if (await listens(address)) return;
      await sleep(20);
    }
    child.kill('SIGKILL');
    throw new Error('swtpm does not listen');
  };
  await Promise.race([ready(), failed]);
  failed.catch(() => {});
  return child;
}

const readCaCertificates = async (dir: string): Promise<readonly string[]> => {
  const files = ['issuercert.pem', 'swtpm-localca-rootca-cert.pem'].map((name) => join(dir, 'ca', name));
  const present = await Promise.all(
    files.map(async (file) => ((await exists(file)) ? [await readFile(file, 'utf8')] : [])),
  );
  return present.flat();
};

async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

/**
 * Manufactures (unless `dir` holds one) and starts a software TPM, ready to answer.
 * @throws Error that names the packages to install if swtpm is missing.
 */
export async function startSwtpm(options: SwtpmOptions = {}): Promise<Swtpm> {
  const { socket = 'tcp', needInit = false } = options;
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'swtpm-')));
  const state = join(dir, 'state');
  const removeDir = async () => {
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
  };
  try {
    if (!(await exists(join(state, 'tpm2-00.permall')))) await setUp(state, dir, options);
    const address = socket === 'unix' ? { path: join(dir, 'data.sock') } : { port: await freePort() };
    let child = await launch(state, address, needInit);
    const onExit = () => child.kill('SIGKILL');
    process.once('exit', onExit);
    const kill = () => end(child, 'SIGKILL');
    return {
      tcti: 'path' in address ? `swtpm:path=${address.path}` : `swtpm:host=127.0.0.1,port=${address.port}`,
      port: 'port' in address ? address.port : 0,
      dir,
      caCertificates: await readCaCertificates(dir),
      kill,
      async restart() {
        await end(child, 'SIGTERM');
        child = await launch(state, address, needInit);
      },
      async stop() {
        process.removeListener('exit', onExit);
        await end(child, 'SIGTERM');
        await removeDir();
      },
    };
  } catch (error) {
    await removeDir();
    throw error;
  }
}
