// Brings a fresh machine to the point where a command of this repository runs, then runs it under the pinned Node.
// Needs nothing but Node >= 20, npm and, on Debian or Ubuntu, apt. Says on stderr what it does; stdout is the command's.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** What a command needs beside npm packages: how to see that it is there, and the package that brings it. */
const needs = {
  swtpm: { package: 'swtpm', found: () => onPath('swtpm') },
  swtpm_setup: { package: 'swtpm-tools', found: () => onPath('swtpm_setup') },
  postgresql: { package: 'postgresql', found: () => postgresBin() !== undefined },
  'nats-server': { package: 'nats-server', found: () => onPath('nats-server') },
  nft: { package: 'nftables', found: () => onPath('nft') },
  openssl: { package: 'openssl', found: () => onPath('openssl') },
};

const commands = {
  up: { needs: ['swtpm', 'swtpm_setup'], node: ['packages/up/src/main.ts'] },
  test: {
    needs: ['swtpm', 'swtpm_setup', 'postgresql', 'openssl', 'nats-server', 'nft'],
    node: [
      '--test',
      '--test-concurrency=2',
      'packages/*/src/**/*.test.ts',
      'test/attacks/**/*.test.ts',
      'test/e2e/**/*.test.ts',
    ],
  },
  bench: { needs: ['swtpm', 'swtpm_setup'], node: ['bench/bench.ts'] },
  fuzz: { needs: [], node: ['test/fuzz/fuzz.ts'] },
  interop: { needs: ['swtpm', 'swtpm_setup', 'openssl'], node: ['test/interop/matrix.ts'] },
};

const say = (text) => process.stderr.write(`${text}\n`);

function stop(text) {
  say(text);
  process.exit(1);
}

function onPath(program) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .concat('/usr/bin', '/usr/sbin')
    .some((folder) => {
      try {
        accessSync(join(folder, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function postgresBin() {
  const versions = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql') : [];
  return versions.map((version) => `/usr/lib/postgresql/${version}/bin`).find((bin) => existsSync(join(bin, 'initdb')));
}

function run(command, args, env = process.env) {
  say(`> ${command} ${args.join(' ')}`);
  // What a package manager prints is news for a person: keep stdout for the command itself.
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: ['ignore', 2, 2] });
  if (error !== undefined) stop(`${command} does not start: ${error.message}`);
  return status === 0;
}

function installSystemPackages(names) {
  const packages = [...new Set(names.map((name) => needs[name].package))];
  const how = `apt-get install ${packages.join(' ')}`;
  if (!onPath('apt-get')) stop(`Missing: ${packages.join(', ')} (Debian's names). Install them and try again.`);
  const prefix = process.getuid?.() === 0 ? [] : onPath('sudo') ? ['sudo', '-n'] : undefined;
  if (prefix === undefined) stop(`Missing: ${packages.join(', ')}. As root: ${how}`);
  say(`Missing on this machine: ${packages.join(', ')}. Installing with apt-get.`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args) => {
    const [command = 'apt-get', ...rest] = [...prefix, 'apt-get', ...args];
    return run(command, rest, env);
  };
  apt('update', '-qq');
  if (!apt('install', '-y', '-qq', '--no-install-recommends', ...packages)) stop(`apt-get failed. By hand: ${how}`);
}

function installNpmPackages() {
  const stamp = join(root, 'node_modules', '.installed');
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say('Installing the npm packages of the workspace.');
  // Not `npm ci`: it refuses a lock file without the optional packages of other platforms, which not every registry has.
  // This too installs what the lock file says, and leaves that file alone.
  const install = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'];
  if (!run('npm', install)) stop('npm install failed: see above.');
  writeFileSync(stamp, wanted);
}

const [name, separator, ...rest] = process.argv.slice(2);
const command = commands[name];
if (command === undefined || (separator !== undefined && separator !== '--')) {
  stop(`Usage: node scripts/bootstrap.mjs ${Object.keys(commands).join('|')} [-- ARGUMENTS]`);
}
if (Number(process.versions.node.split('.')[0]) < 20) stop(`Node >= 20 is needed, this is ${process.version}.`);

const missing = command.needs.filter((need) => !needs[need].found());
if (missing.length > 0) installSystemPackages(missing);
installNpmPackages();

const node = join(root, 'node_modules', '.bin', 'node');
if (!existsSync(node)) stop(`${node} is not there: delete node_modules and try again.`);
const child = spawn(node, [...command.node, ...rest], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, PATH: `${join(root, 'node_modules', '.bin')}${delimiter}${process.env.PATH}:/usr/sbin` },
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
// npm that is told to end does not tell what it runs: it is gone when this process has another parent.
const parent = process.ppid;
setInterval(() => process.ppid !== parent && child.kill('SIGTERM'), 250).unref();
child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 128)));
