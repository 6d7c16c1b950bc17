import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '@keylime/service/free-port';

/** A NATS server with JetStream of one's own. */
export type NatsServer = {
  readonly port: number;
  /** Stops the server and keeps its streams; `resume` starts it again at the same port. */
  readonly halt: () => Promise<void>;
  readonly resume: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** PEM of the server's certificate and key, and of the CA whose certificates clients must show. */
export type NatsServerTls = { readonly certPem: string; readonly keyPem: string; readonly clientCaPem: string };

/**
 * Starts a throw-away NATS server on a free port of 127.0.0.1; `waits` starts it with the first `resume`. Throws, with what
 * to install, if there is none: a test must not pass for want of it.
 */
export async function startNatsServer(
  options: {
    readonly tls?: NatsServerTls;
    readonly waits?: boolean;
    /** More of its configuration file: who may do what. */
    readonly config?: string;
  } = {},
): Promise<NatsServer> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-nats-'));
  const port = await freePort();
  const tls = options.tls === undefined ? [] : tlsArguments(folder, options.tls);
  const configFile = path.join(folder, 'nats.conf');
  writeFileSync(configFile, options.config ?? '', { mode: 0o600 });
  let server: ChildProcess | undefined;
  const resume = async () => {
    const command = ['-c', configFile, '-a', '127.0.0.1', '-p', String(port), '-js', '-sd', folder, ...tls];
    const env = { PATH: `${process.env.PATH}:/usr/sbin` };
    server = spawn('nats-server', command, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    await ready(server);
  };
  const killWithUs = () => server?.kill('SIGKILL');
  process.once('exit', killWithUs);
  const halt = async () => {
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill('SIGTERM');
    await exited;
  };
  if (options.waits !== true) await resume();
  return {
    port,
    halt,
    resume,
    async stop() {
      process.off('exit', killWithUs);
      await halt();
      rmSync(folder, { recursive: true });
    },
  };
}

function tlsArguments(folder: string, { certPem, keyPem, clientCaPem }: NatsServerTls): readonly string[] {
  const file = (name: string, text: string) => {
    writeFileSync(path.join(folder, name), text, { mode: 0o600 });
    return path.join(folder, name);
  };
  const files = ['--tlscert', file('cert.pem', certPem), '--tlskey', file('key.pem', keyPem)];
  return ['--tls', ...files, '--tlsverify', '--tlscacert', file('ca.pem', clientCaPem)];
}

async function ready(server: ChildProcess): Promise<void> {
  let output = '';
  await new Promise<void>((resolve, reject) => {
    server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('Server is ready')) resolve();
    });
    server.once('error', (cause) => {
      reject(new Error('nats-server does not start: install it (Debian package nats-server)', { cause }));
    });
    server.once('exit', (code) => reject(new Error(`nats-server ended with ${code}:\n${output}`)));
  });
}
