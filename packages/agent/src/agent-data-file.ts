import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import { type AgentData, formatAgentData, parseAgentData } from './agent-data.ts';

/** The AK that the file at `path` keeps; `undefined` if there is no file, or (reported) it is damaged. */
export async function readAgentData(path: string, log: Log): Promise<AgentData | undefined> {
  const text = (await findFile(path))?.toString('utf8');
  if (text === undefined) return undefined;
  const parsed = parseAgentData(text);
  if (parsed.ok) return parsed.value;
  const event =
    'The file that keeps the AK is damaged, a new AK is made: the registrar will refuse it for this agent id';
  log.error(event, { path, problem: parsed.problem });
  return undefined;
}

/** Replaces the file in one step, for its owner alone. */
export const writeAgentData = (path: string, data: AgentData): Promise<void> =>
  replaceFile(path, formatAgentData(data), PRIVATE_FILE_MODE);
