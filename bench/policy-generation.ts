import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, lstat, mkdir, mkdtemp, opendir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

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

/** Seconds that one run of the program takes, its start included. */
async function generate(args: readonly string[]): Promise<number> {
  const started = performance.now();
  const child = spawn(process.execPath, [PROGRAM, 'create', 'runtime', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`keylime-policy ended with ${code}`);
  return Number(((performance.now() - started) / 1000).toFixed(2));
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
    const options = ['--rootfs', root, '--any-owner', '--cache', path.join(folder, 'cache'), '--output', '/dev/null'];
    const pageCacheDropped = await dropPageCache();
    const coldSeconds = await generate(options);
    const secondSeconds = await generate(options);
    const secondWithoutCacheSeconds = await generate([...options, '--no-cache']);
    return { ...tree, pageCacheDropped, coldSeconds, secondSeconds, secondWithoutCacheSeconds };
  } finally {
    await rm(folder, { recursive: true });
  }
}
