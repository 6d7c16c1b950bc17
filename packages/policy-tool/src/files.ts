import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type Json, parseJson } from '@keylime/core/json';
import { reason, ToolError } from './tool-error.ts';

/** The bytes of a file that the operator named. @throws ToolError `file_unreadable` */
export async function readInput(file: string, what: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ToolError('file_unreadable', `Cannot read the ${what} ${file}: ${reason(cause)}`, { cause });
  }
}

/** @throws ToolError `file_unreadable`, `policy_invalid` */
export async function readJson(file: string, what: string): Promise<{ readonly text: string; readonly json: Json }> {
  const text = (await readInput(file, what)).toString('utf8');
  const json = parseJson(text);
  if (json === undefined) throw new ToolError('policy_invalid', `The ${what} ${file} is not JSON`);
  return { text, json };
}

export type Writer = { readonly write: (text: string) => unknown };

/** Writes an artifact to a file, or to `stdout` where none is named. @throws ToolError `file_unwritable` */
export function writeArtifact(file: string | undefined, text: string, stdout: Writer, mode = 0o644): void {
  if (file === undefined || file === '-' || file === '/dev/stdout') {
    stdout.write(text);
    return;
  }
  try {
    writeFileSync(file, text, { mode });
  } catch (cause) {
    throw new ToolError('file_unwritable', `Cannot write ${file}: ${reason(cause)}`, { cause });
  }
}
