import { randomBytes } from 'node:crypto';
import { lstat, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isActionName, parseActionList } from '@keylime/payload/action-list';
import { findFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import { ACTION_LIST, endText } from './payload.ts';
import type { RevocationNotice } from './revocation-notice.ts';
import { runProgram } from './run-program.ts';

export type ActionSettings = {
  /** Of the settings; those of the payload's `action_list` come after. */
  readonly names: readonly string[];
  /** Installed actions. */
  readonly installedFolder: string;
  /** Folder of the payload. */
  readonly payloadFolder: string;
  readonly allowPayloadActions: boolean;
  readonly workFolder: string;
  /** Where the file with the notice is put while actions run. */
  readonly argumentFolder: string;
  readonly timeoutSeconds: number;
};

/** Why there is nothing to run of this name. */
export type ActionProblem = 'name_refused' | 'not_found';
/**
 * `interrupted`: the agent stops, and nobody knows what was done. `retry`: not all were run, which may be possible later.
 */
export type ActionsEnd = 'succeeded' | 'failed' | 'interrupted' | 'retry';
export type Action = { readonly path: string; readonly kind: 'program' | 'python' };

/**
 * Runs the actions for a verified notice, one after the other; the first that is missing or fails ends it [compat].
 * @param progress.done names of actions that succeeded: they are left out, and those that succeed now are added.
 * @param progress.isPayloadExpected a payload with more names and actions may yet come.
 * @throws a system error if the notice cannot be written for them.
 */
export async function runActions(
  notice: RevocationNotice,
  settings: ActionSettings,
  log: Log,
  signal: AbortSignal,
  progress: { readonly done: Set<string>; readonly isPayloadExpected: boolean },
): Promise<ActionsEnd> {
  const { done, isPayloadExpected } = progress;
  const atEnd = isPayloadExpected ? 'retry' : 'succeeded';
  const names = (await actionNames(settings, log)).filter((name) => !done.has(name));
  if (names.length === 0) return atEnd;
  const argument = path.join(settings.argumentFolder, `argument-${randomBytes(8).toString('hex')}.json`);
  await writeFile(argument, JSON.stringify(notice.json), { mode: 0o600, flag: 'wx' });
  try {
    for (const name of names) {
      const action = await findAction(name, settings);
      if (action === 'not_found' && isPayloadExpected) return 'retry';
      if (typeof action === 'string') {
        log.error(`Revocation action ${name} cannot be run: ${action}`, { path: settings.installedFolder });
        return 'failed';
      }
      const end = await runAction(name, action, argument, settings, log, signal);
      if (end !== 'succeeded') return end;
      done.add(name);
    }
    return atEnd;
  } finally {
    await rm(argument, { force: true });
  }
}

async function actionNames({ names, payloadFolder }: ActionSettings, log: Log): Promise<readonly string[]> {
  const list = parseActionList((await findFile(path.join(payloadFolder, ACTION_LIST)))?.toString('utf8') ?? '');
  if (list.refused.length > 0) log.error('action_list has names that are never run', { refused: list.refused });
  return [...new Set([...names, ...list.names])];
}

/**
 * Where the action of this name is: an installed program, one of the payload if that is allowed, or a Python module in the
 * same order. [MUST] Names stay in the two folders, and nothing that a payload's script left there may lead elsewhere.
 */
export async function findAction(name: string, settings: ActionSettings): Promise<Action | ActionProblem> {
  if (!isActionName(name)) return 'name_refused';
  const { installedFolder, payloadFolder, allowPayloadActions } = settings;
  for (const [suffix, kind] of [
    ['', 'program'],
    ['.py', 'python'],
  ] as const) {
    const installed = path.join(installedFolder, name + suffix);
    if (installedFolder !== '' && (await isFile(installed, stat))) return { path: installed, kind };
    const delivered = path.join(payloadFolder, name + suffix);
    if (allowPayloadActions && (await isFile(delivered, lstat))) return { path: delivered, kind };
  }
  return 'not_found';
}

const isFile = async (file: string, look: typeof stat): Promise<boolean> =>
  (await look(file).catch(() => undefined))?.isFile() ?? false;

/** spawn(2) errors of a machine that has too much to do. */
const SHORT_OF_RESOURCES = /\b(EAGAIN|ENOMEM|EMFILE|ENFILE)\b/;

/** [compat] Calls `execute` of a module, a coroutine or not, with the notice (spec 06 section 4.5). */
const PYTHON_SHIM = `
import asyncio, importlib.util, inspect, json, sys
spec = importlib.util.spec_from_file_location("revocation_action", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with open(sys.argv[2], encoding="utf-8") as argument:
    notice = json.load(argument)
async def run():
    result = module.execute(notice)
    if inspect.isawaitable(result):
        await result
asyncio.run(run())
`;

async function runAction(
  name: string,
  action: Action,
  argument: string,
  { workFolder, timeoutSeconds }: ActionSettings,
  log: Log,
  signal: AbortSignal,
): Promise<ActionsEnd> {
  log.info(`Executing revocation action ${name}`, { path: action.path });
  const startedAt = performance.now();
  const isPython = action.kind === 'python';
  const end = await runProgram({
    path: isPython ? 'python3' : action.path,
    args: isPython ? ['-B', '-c', PYTHON_SHIM, action.path, argument] : [argument],
    cwd: workFolder,
    env: isPython ? { PYTHONPATH: path.dirname(action.path) } : undefined,
    timeoutMs: timeoutSeconds * 1000,
    onLine: (stream, line) => (stream === 'stdout' ? log.info : log.warn)(`${name}: ${line}`),
    signal,
  });
  const durationMs = Math.round(performance.now() - startedAt);
  if (end.kind === 'exited' && end.status === 0) {
    log.info(`Revocation action ${name} succeeded`, { durationMs });
    return 'succeeded';
  }
  log.error(`Revocation action ${name} failed: ${endText(end, timeoutSeconds)}`, { durationMs });
  if (end.kind === 'not_started' && SHORT_OF_RESOURCES.test(end.reason)) return 'retry';
  return end.kind === 'stopped' ? 'interrupted' : 'failed';
}
