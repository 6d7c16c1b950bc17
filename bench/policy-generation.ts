import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, lstat, mkdir, mkdtemp, opendir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { findPython, NO_PYTHON } from './find-python.ts';

const PROGRAM = fileURLToPath(new URL('../packages/policy-tool/bin/keylime_policy.mjs', import.meta.url));

/** The cache does not trust files that were changed within the last two seconds. */
const SETTLE_MS = 3_000;

/** Copies files of `/usr`, directory by directory, until they have `wantedBytes`: as in a system, most files are small. */
async function makeTree(root: string, wantedBytes: number): Promise<{ files: number; bytes: number }> {
  const size = { files: 0, bytes: 0 };
  const waiting = ['/usr/bin', '/usr/sbin', '/usr/libexec', '/usr/share', '/usr/lib'].reverse();
  for (let directory = waiting.pop(); directory !== undefined && size.bytes < wantedBytes; directory = waiting.pop()) {
    const opened = await opendir(directory).catch(() => undefined);
    if (opened === undefined) continue;
    await mkdir(root + directory, { recursive: true });
    for await (const entry of opened) {
      const file = path.join(directory, entry.name);
      if (entry.isDirectory()) waiting.push(file);
      if (!entry.isFile() || size.bytes >= wantedBytes) continue;
      const { size: bytes } = await lstat(file);
      if (bytes > wantedBytes / 10) continue;
      await copyFile(file, root + file);
      size.files++;
      size.bytes += bytes;
    }
  }
  return size;
}

type Times = { readonly seconds: number; readonly cpuSeconds: number };

/** How long one run of a program takes, its start included, and the processor time of all its threads. */
async function timed(program: string, args: readonly string[]): Promise<Times> {
  const started = performance.now();
  // `times` (POSIX sh) prints the user and system time of the children in its second line.
  const child = spawn('sh', ['-c', '"$@" && times', 'sh', program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [output, complaints] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${complaints}`);
  const [, children = ''] = output.trim().split('\n').slice(-2);
  const parts = [...children.matchAll(/(\d+)m([\d.]+)s/g)].map(
    ([, minutes, seconds]) => 60 * Number(minutes) + Number(seconds),
  );
  const cpuSeconds = parts.reduce((sum, part) => sum + part, 0);
  return {
    seconds: Number(((performance.now() - started) / 1000).toFixed(2)),
    cpuSeconds: Number(cpuSeconds.toFixed(2)),
  };
}

/** Makes the next reads come from the disk; only root can. */
async function dropPageCache(): Promise<boolean> {
  try {
    await writeFile('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

const digestsOf = async (file: string): Promise<object> => JSON.parse(await readFile(file, 'utf8')).digests;

/** The existing tool on the same tree, in the same states of the page cache; it takes files of root only, and must be root. */
async function existing(root: string, output: string, ours: object): Promise<object> {
  const python = findPython();
  if (python === undefined) return NO_PYTHON;
  if (process.getuid?.() !== 0) return { notRun: 'the existing tool wants to be run by root' };
  const args = ['-m', 'keylime.cmd.keylime_policy', 'create', 'runtime', '--rootfs', root, '--output', output];
  await dropPageCache();
  const cold = await timed(python, args);
  const second = await timed(python, args);
  return { cold, second, sameDigests: isDeepStrictEqual(await digestsOf(output), ours) };
}

/**
 * Time to make a policy of a root file system: of `--rootfs`, or of a copy of parts of `/usr` of `--megabytes` (300). The
 * first run digests everything, the second finds all in its cache.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { rootfs: { type: 'string' }, megabytes: { type: 'string', default: '300' }, json: { type: 'boolean' } },
  });
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-bench-'));
  try {
    const root = values.rootfs ?? path.join(folder, 'root');
    const tree = values.rootfs === undefined ? await makeTree(root, Number(values.megabytes) * 1e6) : undefined;
    await sleep(SETTLE_MS);
    const output = path.join(folder, 'policy.json');
    const generate = (...more: readonly string[]) =>
      timed(process.execPath, [PROGRAM, 'create', 'runtime', '--rootfs', root, '--output', output, ...more]);
    const owner = process.getuid?.() === 0 ? [] : ['--any-owner'];
    const cached = [...owner, '--cache', path.join(folder, 'cache')];
    const pageCacheDropped = await dropPageCache();
    const cold = await generate(...cached);
    const second = await generate(...cached);
    const secondWithoutCache = await generate(...owner, '--no-cache');
    const digests = await digestsOf(output);
    return {
      benchmark: 'policy-generation',
      ...(tree ?? { rootfs: 'as given' }),
      digests: Object.keys(digests).length,
      pageCacheDropped,
      cold,
      second,
      secondWithoutCache,
      python: await existing(root, path.join(folder, 'existing.json'), digests),
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}
