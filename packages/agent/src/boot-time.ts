import { readFile } from 'node:fs/promises';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

const STAT = '/proc/stat';

/**
 * When this boot began, as the verifier is told: Unix seconds, the same for the whole boot, and later than that of the boot
 * before. The kernel's `btime` is neither when the clock is set, and the existing verifier goes by it (spec 05 P2): a boot
 * that is not later than the last one is refused for ever. So what was said once is kept in the file at `path`.
 * @param bootId tells boots apart. @param options.readStat text of /proc/stat (proc_stat(5)).
 */
export async function bootTime(
  path: string,
  bootId: string,
  log: Log,
  options: { readonly readStat?: () => Promise<string> } = {},
): Promise<number> {
  const { readStat = () => readFile(STAT, 'utf8') } = options;
  const kept = await readKept(path, log);
  if (kept?.bootId === bootId) return kept.bootTime;
  const btime = Number(/^btime (\d{1,12})$/m.exec(await readStat())?.[1] ?? 0);
  const said = kept === undefined ? btime : Math.max(btime, kept.bootTime + 1);
  try {
    await replaceFile(path, JSON.stringify({ bootId, bootTime: said }), PRIVATE_FILE_MODE);
  } catch (cause) {
    log.error('The time of this boot cannot be remembered beyond a restart', { path, reason: cause });
  }
  return said;
}

async function readKept(path: string, log: Log) {
  const text = (await findFile(path))?.toString('utf8');
  if (text === undefined) return undefined;
  const json = parseJson(text);
  const { bootId, bootTime: time } = isJsonObject(json) ? json : {};
  if (typeof bootId === 'string' && typeof time === 'number' && Number.isSafeInteger(time)) {
    return { bootId, bootTime: time };
  }
  log.error('The file that keeps the time of the boot is damaged', { path });
  return undefined;
}
