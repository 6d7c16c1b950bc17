import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '@keylime/service/free-port';

/** A PostgreSQL server of one's own; `url` has user, password and an empty database. */
export type Postgres = {
  readonly url: string;
  /** Stops the server and keeps its data; `resume` starts it again at the same port. */
  readonly halt: () => Promise<void>;
  readonly resume: () => Promise<void>;
  readonly stop: () => Promise<void>;
};

type User = { readonly uid: number; readonly gid: number };

/**
 * Starts a throw-away PostgreSQL on a free port of 127.0.0.1, without fsync: fast, for tests only. As root it runs as
 * the user `postgres`. Throws, with what to install, if there is no PostgreSQL: a test must not pass for want of it.
 */
export async function startPostgres(): Promise<Postgres> {
  const bin = findBinaries();
  const user = process.getuid?.() === 0 ? unprivileged() : undefined;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-postgres-'));
  const password = randomBytes(12).toString('hex');
  const passwordFile = path.join(folder, 'password');
  const data = path.join(folder, 'data');
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user !== undefined) for (const file of [folder, passwordFile]) chownSync(file, user.uid, user.gid);
  const options = ['--username=keylime', '--auth=scram-sha-256', '--encoding=UTF8', '--no-locale', '--no-sync'];
  const initdb = ['-D', data, `--pwfile=${passwordFile}`, ...options];
  execFileSync(path.join(bin, 'initdb'), initdb, { ...user, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });

  const port = await freePort();
  const settings = ['fsync=off', 'full_page_writes=off', 'shared_buffers=16MB', `unix_socket_directories=${folder}`];
  const launch = async () => {
    const started = spawn(
      path.join(bin, 'postgres'),
      ['-D', data, '-h', '127.0.0.1', '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])],
      { ...user, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    await ready(started);
    return started;
  };
  let server: ChildProcess = await launch();
  const killWithUs = () => server.kill('SIGQUIT');
  process.once('exit', killWithUs);
  const halt = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill('SIGINT'); // "fast": does not wait for clients
    await exited;
  };
  return {
    url: `postgresql://keylime:${password}@127.0.0.1:${port}/postgres`,
    halt,
    async resume() {
      server = await launch();
    },
    async stop() {
      process.removeListener('exit', killWithUs);
      await halt();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function findBinaries(): string {
  const installed = '/usr/lib/postgresql'; // Debian and Ubuntu keep the server's programs out of PATH
  const versions = existsSync(installed) ? readdirSync(installed).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => path.join(installed, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ];
  const found = folders.find((folder) => ['initdb', 'postgres'].every((name) => existsSync(path.join(folder, name))));
  if (found === undefined)
    throw new Error('PostgreSQL is not installed; on Debian and Ubuntu: apt-get install postgresql');
  return found;
}

/** PostgreSQL refuses to run as root. */
function unprivileged(): User {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('postgres:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new Error('there is no user "postgres" to run PostgreSQL as');
  return { uid: Number(uid), gid: Number(gid) };
}

/** Resolves when the server accepts connections; its log is read all its life, so that its pipe never fills. */
function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = '';
    server.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-4000);
      if (log.includes('ready to accept connections')) resolve();
    });
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`PostgreSQL stopped with ${code}:\n${log}`)));
  });
}
