import { readFile } from 'node:fs/promises';
import { AgentError } from './agent-error.ts';

/** Text of the file that `option` names. @throws AgentError `file_unreadable` */
export async function readFileOf(option: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AgentError(
      'file_unreadable',
      `${option}: ${path} cannot be read: correct the option, or put the file there.`,
      {
        cause,
      },
    );
  }
}
