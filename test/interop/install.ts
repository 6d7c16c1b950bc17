import { existsSync } from 'node:fs';
import { mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { INSTALLED, rustAgent } from './launchers.ts';
import { type Finished, runProgram } from './processes.ts';

/** `undefined` when it is there; otherwise why it could not be installed, in one line. */
export type Refusal = string | undefined;
export type Installation = { readonly softwareTpm: Refusal; readonly python: Refusal; readonly rust: Refusal };
type Say = (line: string) => void;

const KEYLIME_VERSION = '7.14.3';
// The package names no dependencies of its own. The module `gpg` is a part of GPGME and comes from the system.
const PYTHON_PACKAGES = [
  `keylime==${KEYLIME_VERSION}`,
  ...['alembic', 'cryptography', 'jinja2', 'jsonschema', 'lark', 'packaging', 'psutil', 'pyasn1', 'pyasn1-modules'],
  ...['pyyaml', 'pyzmq', 'requests', 'sqlalchemy', 'tornado', 'typing-extensions'],
];
const SOFTWARE_TPM_PACKAGES = ['swtpm', 'swtpm-tools'];
const PYTHON_SYSTEM_PACKAGES = ['python3', 'python3-venv', 'python3-gpg', 'tpm2-tools'];
const RUST_SYSTEM_PACKAGES = ['clang', 'libclang-dev', 'libssl-dev', 'libtss2-dev', 'pkg-config'];

const MINUTES = 60_000;

/** Runs a command; one that does not exist answers 127. */
async function attempt(command: string, args: readonly string[], timeoutMs: number): Promise<Finished> {
  try {
    return await runProgram({ command, args, env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }, timeoutMs);
  } catch (cause) {
    return { code: 127, stdout: '', stderr: cause instanceof Error ? cause.message : String(cause) };
  }
}

const lastLine = ({ stdout, stderr }: Finished): string => {
  const lines = `${stdout}\n${stderr}`.split('\n').map((line) => line.trim());
  return lines.findLast((line) => /error/i.test(line)) ?? lines.findLast((line) => line !== '') ?? 'no output';
};

/** Makes sure that Debian packages are there; installs with apt when that is possible. */
async function systemPackages(names: readonly string[], say: Say): Promise<Refusal> {
  const missing: string[] = [];
  for (const name of names) {
    const status = await attempt('dpkg', ['--status', name], MINUTES);
    if (status.code === 127) return `install by hand what this system calls ${names.join(', ')}: it has no dpkg`;
    if (!status.stdout.includes('Status: install ok installed')) missing.push(name);
  }
  if (missing.length === 0) return undefined;
  if (process.getuid?.() !== 0) return `run as root, or first: apt-get install ${missing.join(' ')}`;
  say(`installing with apt: ${missing.join(', ')}`);
  await attempt('apt-get', ['update', '-qq'], 5 * MINUTES);
  const done = await attempt('apt-get', ['install', '-y', '--no-install-recommends', ...missing], 15 * MINUTES);
  return done.code === 0 ? undefined : `apt could not install ${missing.join(', ')}: ${lastLine(done)}`;
}

const works = async (python: string): Promise<boolean> => {
  const modules = ['verifier', 'registrar', 'tenant'].map((name) => `keylime.cmd.${name}`).join(', ');
  const imports = ['-c', `import ${modules}`];
  if (!existsSync(python) || (await attempt(python, imports, MINUTES)).code !== 0) return false;
  // Reads boot event logs for the verifier.
  return (await attempt('tpm2_eventlog', ['--version'], MINUTES)).code === 0;
};

async function installPython(say: Say): Promise<Refusal> {
  const folder = join(INSTALLED, 'python');
  const python = join(folder, 'bin', 'python');
  if (await works(python)) return undefined;
  const refused = await systemPackages(PYTHON_SYSTEM_PACKAGES, say);
  if (refused) return refused;
  say(`installing keylime ${KEYLIME_VERSION} from the Python registry into test/interop/.installed/python`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(INSTALLED, { recursive: true });
  // The system's own Python: its module `gpg` is built for that one.
  const made = await attempt('/usr/bin/python3', ['-m', 'venv', folder], 2 * MINUTES);
  if (made.code !== 0) return `no virtual environment: ${lastLine(made)}`;
  const pip = await attempt(python, ['-m', 'pip', 'install', '--quiet', ...PYTHON_PACKAGES], 15 * MINUTES);
  if (pip.code !== 0) return `pip could not install keylime: ${lastLine(pip)}`;
  const find = 'import gpg, os; print(os.path.dirname(gpg.__file__))';
  const gpg = (await attempt('/usr/bin/python3', ['-c', find], MINUTES)).stdout.trim();
  const packages = 'import sysconfig; print(sysconfig.get_paths()["platlib"])';
  const library = (await attempt(python, ['-c', packages], MINUTES)).stdout.trim();
  if (gpg !== '' && library !== '') await symlink(gpg, join(library, 'gpg'));
  if (await works(python)) return undefined;
  return `the installed keylime does not load: ${lastLine(await attempt(python, ['-c', 'import keylime.cmd.verifier'], MINUTES))}`;
}

async function installRust(say: Say): Promise<Refusal> {
  if (rustAgent() !== undefined) return undefined;
  if ((await attempt('cargo', ['--version'], MINUTES)).code !== 0) return 'cargo is not installed';
  // Asked before anything is built or installed: an absent crate is told in a second.
  const known = await attempt('cargo', ['info', 'keylime_agent'], 2 * MINUTES);
  if (/could not find/.test(known.stderr)) return 'the Rust registry does not have the crate keylime_agent';
  const refused = await systemPackages(RUST_SYSTEM_PACKAGES, say);
  if (refused) return refused;
  say('building keylime_agent from the Rust registry into test/interop/.installed/rust (several minutes)');
  const args = ['install', '--locked', '--root', join(INSTALLED, 'rust'), 'keylime_agent'];
  const done = await attempt('cargo', args, 60 * MINUTES);
  return done.code === 0 ? undefined : `cargo could not install keylime_agent: ${lastLine(done)}`;
}

/** Installs the existing services and agent where they can be had, and the software TPM that every combination needs. */
export async function install(options: { readonly theirs: boolean; readonly say: Say }): Promise<Installation> {
  const { theirs, say } = options;
  const softwareTpm = await systemPackages(SOFTWARE_TPM_PACKAGES, say);
  if (!theirs) return { softwareTpm, python: undefined, rust: undefined };
  return { softwareTpm, python: await installPython(say), rust: await installRust(say) };
}

if (import.meta.main) {
  const installed = await install({ theirs: true, say: (line) => console.error(line) });
  for (const [part, refusal] of Object.entries(installed))
    console.log(`${part}: ${refusal ? `not run: ${refusal}` : 'ready'}`);
  if (Object.values(installed).some((refusal) => refusal !== undefined)) process.exitCode = 1;
}
