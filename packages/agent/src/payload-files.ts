import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
import { markScriptDue, scriptMark } from './payload-progress.ts';

/** A file of a payload; `name` may have folders, and stays below the payload's folder. */
export type PayloadFile = { readonly name: string; readonly content: Uint8Array; readonly isExecutable: boolean };

/** Below the secure folder: a link to the folder of the payload that counts. */
export const UNZIPPED = 'unzipped';
const PREFIX = 'payload-';

/**
 * Puts a payload in the place of the one before, in one step: `unzipped` is a link that is changed when all files are
 * there, with the mark that its script is due. If anything fails nothing is left of the new one and the old one stays. Files are for their owner alone.
 * @throws a system error, such as ENOSPC.
 */
export async function replacePayload(
  secureFolder: string,
  {
    files,
    folders,
    isScriptDue,
  }: { readonly files: readonly PayloadFile[]; readonly folders: readonly string[]; readonly isScriptDue: boolean },
): Promise<void> {
  const id = randomBytes(8).toString('hex');
  const name = `${PREFIX}${id}`;
  const folder = path.join(secureFolder, name);
  const link = path.join(secureFolder, `${UNZIPPED}.${id}`);
  try {
    await mkdir(folder, { mode: 0o700 });
    for (const one of folders) await mkdir(path.join(folder, one), { recursive: true, mode: 0o700 });
    for (const file of files) await writeFile(folder, file);
    if (isScriptDue) await markScriptDue(folder);
    await symlink(name, link);
    await putInPlace(link, path.join(secureFolder, UNZIPPED), path.join(secureFolder, `${PREFIX}${id}-before`));
  } catch (cause) {
    await rm(link, { force: true });
    await rm(scriptMark(folder), { force: true });
    await rm(folder, { recursive: true, force: true });
    throw cause;
  }
  await removeOthers(secureFolder);
}

async function writeFile(folder: string, { name, content, isExecutable }: PayloadFile): Promise<void> {
  const target = path.join(folder, name);
  await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
  const file = await open(target, 'wx', isExecutable ? 0o700 : 0o600);
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
}

async function putInPlace(link: string, place: string, aside: string): Promise<void> {
  try {
    await rename(link, place);
  } catch (cause) {
    // The existing agent makes a folder there.
    if (codeOf(cause) !== 'EISDIR') throw cause;
    await rename(place, aside);
    await rename(link, place);
  }
}

/** Removes payloads, and parts of payloads, that do not count: of before, or of a process that was killed. */
export async function removeOthers(secureFolder: string): Promise<void> {
  const counts = await readlink(path.join(secureFolder, UNZIPPED)).catch(() => undefined);
  for (const name of await readdir(secureFolder)) {
    const isOld = name.startsWith(PREFIX) && name !== counts && name !== scriptMark(counts ?? '');
    if (isOld || name.startsWith(`${UNZIPPED}.`)) {
      await rm(path.join(secureFolder, name), { recursive: true, force: true });
    }
  }
}
