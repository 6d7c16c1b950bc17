import { access, readlink } from 'node:fs/promises';
import { constants } from 'node:os';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import { endText, type PayloadSettings } from './payload.ts';
import { UNZIPPED } from './payload-files.ts';
import { countScriptRun, forgetScript, scriptRuns } from './payload-progress.ts';
import { type ProgramEnd, runProgram } from './run-program.ts';

/** A script that ends the agent, or the machine's patience, is not begun for ever. */
export const MAX_RUNS = 3;

/**
 * Runs the script of the payload that is in place, unless it has ended: after a delivery, and after a start, because the
 * agent may have been ended before its script. How it ends is told in the log (spec 02 section 5.5).
 * @returns whether a script was begun.
 */
export async function runDueScript({
  secureFolder,
  settings,
  log,
  signal,
}: {
  readonly secureFolder: string;
  readonly settings: PayloadSettings;
  readonly log: Log;
  readonly signal: AbortSignal;
}): Promise<boolean> {
  // No link: no payload, or one of the existing agent.
  const counts = await readlink(path.join(secureFolder, UNZIPPED)).catch(() => undefined);
  if (counts === undefined) return false;
  const payload = path.join(secureFolder, counts);
  const runs = await scriptRuns(payload);
  if (runs === undefined) return false;

  const { payload_script: name, payload_script_timeout: seconds } = settings;
  const script = path.join(secureFolder, UNZIPPED, name);
  if (name === '' || !(await isThere(script))) {
    log.info('The payload has no script', { name });
    await forgetScript(payload);
    return false;
  }
  if (!(runs < MAX_RUNS)) {
    log.error(`Payload script ${name} was cut off ${runs} times and is not run again: send the payload once more`);
    await forgetScript(payload);
    return false;
  }
  if (runs > 0) log.warn(`Payload script ${name} was cut off when the agent ended: it is run again`, { runs });
  await countScriptRun(payload, runs + 1);

  log.info(`Executing payload script ${name}`);
  const startedAt = performance.now();
  const end = await runProgram({
    // The shell runs it, as existing agents do: it needs no first line that names an interpreter.
    path: '/bin/sh',
    args: ['-c', '"$0"', script],
    cwd: path.join(secureFolder, UNZIPPED),
    timeoutMs: seconds * 1000,
    onLine: (stream, line) => (stream === 'stdout' ? log.info : log.warn)(`${name}: ${line}`),
    signal,
  });
  const durationMs = Math.round(performance.now() - startedAt);
  const isCutOff = wasCutOff(end);
  if (!isCutOff) await forgetScript(payload);
  if (end.kind === 'exited' && end.status === 0) log.info(`Payload script ${name} succeeded`, { durationMs });
  else {
    const again = isCutOff ? '; it is run again when the agent starts' : '';
    log.error(`Payload script ${name} failed: ${endText(end, seconds)}${again}`, { durationMs });
  }
  return true;
}

const isThere = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  );

/** What ends the agent may end its script first: systemd, for instance, signals both at once. */
const { SIGHUP, SIGINT, SIGKILL, SIGTERM } = constants.signals;
const STATUS_OF_SIGNAL = 128;

function wasCutOff(end: ProgramEnd): boolean {
  if (end.kind === 'exited') return [SIGHUP, SIGINT, SIGKILL, SIGTERM].includes(end.status - STATUS_OF_SIGNAL);
  return end.kind !== 'timed_out';
}
