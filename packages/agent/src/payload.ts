import path from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
import { isActionName, parseActionList } from '@keylime/payload/action-list';
import { ARCHIVE_LIMITS, type ArchiveEntry, type ArchiveProblem, readZip } from '@keylime/payload/archive';
import { decryptPayload } from '@keylime/payload/encryption';
import { entryNameProblem } from '@keylime/payload/entry-name';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import { type PayloadFile, replacePayload, UNZIPPED } from './payload-files.ts';
import type { ProgramEnd } from './run-program.ts';

/** File of a payload that names its revocation actions. */
export const ACTION_LIST = 'action_list';

export type PayloadSettings = {
  readonly enc_keyname: string;
  readonly dec_payload_file: string;
  readonly extract_payload_zip: boolean;
  readonly payload_script: string;
  readonly payload_script_timeout: number;
  readonly enable_agent_mtls: boolean;
  readonly enable_insecure_payload: boolean;
};

/** [MUST] Names of the settings stay in the payload's folder too. @throws AgentError `payload_settings` */
export function checkPayloadSettings(settings: PayloadSettings): void {
  const { enc_keyname: keyName, dec_payload_file: payloadName, payload_script: script } = settings;
  const refuse = (option: string, problem: string) => {
    throw new AgentError('payload_settings', `${option}: ${problem}.`);
  };
  for (const [option, name] of [
    ['enc_keyname', keyName],
    ['dec_payload_file', payloadName],
  ] as const) {
    if (!isActionName(name)) refuse(option, `"${name}" is not the name of a file without folders`);
  }
  if (keyName === payloadName) refuse('dec_payload_file', 'it must not have the name that enc_keyname has');
  if (script !== '' && entryNameProblem(script) !== undefined) {
    refuse('payload_script', `"${script}" is not the name of a file of the payload; leave it empty to run none`);
  }
}

/**
 * Decrypts a payload and puts it in the place of the one before; its script is due then. Whatever goes wrong is told in the
 * log, and leaves the payload of before as it was (spec 02 section 5.5).
 * @returns whether it is in place. [compat] A K that comes alone counts even where nothing is written.
 */
export async function installPayload(delivery: {
  readonly k: Buffer;
  readonly payload: Buffer | undefined;
  readonly secureFolder: string;
  readonly settings: PayloadSettings;
  readonly log: Log;
}): Promise<boolean> {
  const { k, payload, secureFolder, settings, log } = delivery;
  if (!settings.enable_agent_mtls && !settings.enable_insecure_payload) {
    log.warn('A payload arrived and is not written: enable_agent_mtls and enable_insecure_payload are both off');
    return payload === undefined;
  }
  const content = await unpack(k, payload, settings, log);
  if (content === undefined) return false;
  try {
    const isScriptDue = payload !== undefined && settings.payload_script !== '';
    await replacePayload(secureFolder, { ...content, isScriptDue });
  } catch (cause) {
    const event =
      codeOf(cause) === 'ENOSPC'
        ? 'The payload does not fit beside the one before, which stays: raise secure_size, and mount it anew'
        : 'The payload cannot be written';
    log.error(event, { path: secureFolder, reason: cause });
    return false;
  } finally {
    for (const file of content.files) file.content.fill(0);
  }
  log.info('A payload is in place', { path: path.join(secureFolder, UNZIPPED), files: content.files.length });
  return true;
}

type Content = { readonly files: readonly PayloadFile[]; readonly folders: readonly string[] };

async function unpack(
  k: Buffer,
  payload: Buffer | undefined,
  settings: PayloadSettings,
  log: Log,
): Promise<Content | undefined> {
  const { enc_keyname: keyName, dec_payload_file: payloadName } = settings;
  const key = { name: keyName, content: Buffer.from(k), isExecutable: false };
  if (payload === undefined) return { files: [key], folders: [] };

  const decrypted = decryptPayload(k, payload);
  if (!decrypted.ok) {
    log.error('The payload does not decrypt under its key: nothing of it is written', { problem: decrypted.problem });
    return undefined;
  }
  const whole = { name: payloadName, content: decrypted.value, isExecutable: false };
  if (!settings.extract_payload_zip) return { files: [key, whole], folders: [] };
  const archive = await readZip(decrypted.value, ARCHIVE_LIMITS);
  if (!archive.ok && archive.problem.kind === 'not_a_zip') {
    log.info('The payload is no ZIP archive: it is kept as one file', { name: payloadName });
    return { files: [key, whole], folders: [] };
  }
  const problem = archive.ok ? reservedName(archive.value, [keyName, payloadName]) : archive.problem;
  if (!archive.ok || problem !== undefined) {
    log.error('The archive of the payload is refused: nothing of it is written', { ...problem });
    return undefined;
  }
  return { files: [key, whole, ...executables(archive.value, settings, log)], folders: foldersOf(archive.value) };
}

const reservedName = (
  entries: readonly ArchiveEntry[],
  reserved: readonly string[],
): Pick<ArchiveProblem, 'kind'> | { readonly kind: 'name_reserved'; readonly entry: string } | undefined => {
  const taken = entries.find(({ name }) => reserved.includes(name.split('/')[0] ?? ''));
  return taken && { kind: 'name_reserved', entry: taken.name };
};

const foldersOf = (entries: readonly ArchiveEntry[]): readonly string[] =>
  entries.flatMap((entry) => (entry.type === 'folder' ? [entry.name] : []));

/** Files of the archive; the script and the actions may be executed whatever the archive says. */
function executables(entries: readonly ArchiveEntry[], settings: PayloadSettings, log: Log): readonly PayloadFile[] {
  const files = entries.filter((entry) => entry.type === 'file');
  const list = files.find(({ name }) => name === ACTION_LIST)?.content.toString('utf8') ?? '';
  const { names, refused } = parseActionList(list);
  if (refused.length > 0) log.warn('action_list has names that are no names of files: they are never run', { refused });
  return files.map((file) => ({
    ...file,
    isExecutable: file.isExecutable || file.name === settings.payload_script || names.includes(file.name),
  }));
}

/** How a program ended, for people. */
export function endText(end: ProgramEnd, limitSeconds: number): string {
  switch (end.kind) {
    case 'exited':
      return `exit status ${end.status}`;
    case 'killed':
      return `killed by ${end.signal}`;
    case 'timed_out':
      return `stopped after ${limitSeconds} s`;
    case 'stopped':
      return 'stopped because the agent stops';
    case 'not_started':
      return end.reason;
  }
}
