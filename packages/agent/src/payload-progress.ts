import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { codeOf } from '@keylime/core/coded-error';

/*
 * What an agent that is ended in the middle of a delivery leaves to the next one: marks beside the payloads, in memory as
 * these are, so that a reboot forgets both.
 */

const ARRIVED = 'arrived-';

/**
 * Notes that a payload arrived and is not installed yet. Synchronous, so that it is done before the sender is answered.
 * @returns what removes the mark. @throws a system error
 */
export function noteArrival(secureFolder: string): () => Promise<void> {
  const mark = path.join(secureFolder, `${ARRIVED}${randomBytes(8).toString('hex')}`);
  writeFileSync(mark, '', { mode: 0o600, flag: 'wx' });
  return () => rm(mark, { force: true });
}

/** Removes the marks of arrivals. @returns how many there were: payloads that a process before did not install. */
export async function forgetArrivals(secureFolder: string): Promise<number> {
  const marks = (await readdir(secureFolder)).filter((name) => name.startsWith(ARRIVED));
  for (const name of marks) await rm(path.join(secureFolder, name), { force: true });
  return marks.length;
}

/** Beside the folder of a payload until its script has ended: one digit, the number of runs that were begun. */
export const scriptMark = (payloadFolder: string): string => `${payloadFolder}.script`;

/** @throws a system error, such as ENOSPC. */
export async function markScriptDue(payloadFolder: string): Promise<void> {
  const mark = await open(scriptMark(payloadFolder), 'wx', 0o600);
  try {
    await mark.writeFile('0');
  } finally {
    await mark.close();
  }
}

/** How many runs of the script were begun; `undefined` if it has ended, or there is nothing to run. */
export async function scriptRuns(payloadFolder: string): Promise<number | undefined> {
  try {
    return Number(await readFile(scriptMark(payloadFolder), 'utf8'));
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw cause;
  }
}

/** Overwrites in place: there may be no room for more. */
export async function countScriptRun(payloadFolder: string, runs: number): Promise<void> {
  const mark = await open(scriptMark(payloadFolder), 'r+');
  try {
    await mark.write(String(runs), 0);
  } finally {
    await mark.close();
  }
}

export const forgetScript = (payloadFolder: string): Promise<void> => rm(scriptMark(payloadFolder), { force: true });
