import { pythonJson } from '@keylime/api/python-json';
import { parseJson } from '@keylime/core/json';
import { isEmptyReference } from '@keylime/measured-boot/empty-reference';
import type { Log } from '@keylime/service/log';
import { readInput } from './runtime-policy-file.ts';
import { TenantError } from './tenant-error.ts';

/**
 * Reads a measured-boot policy, which is the reference state of a boot: JSON text as the existing tool writes it anew.
 * `default` stands for the file that `mb_refstate` of tenant.conf names.
 * @throws TenantError `file_unreadable`, `policy_invalid`, `invalid_argument`
 */
export async function readMbPolicy(file: string, defaultFile: string, log: Log): Promise<string> {
  const name = file === 'default' ? defaultFile : file;
  if (name === '') {
    throw new TenantError('invalid_argument', '--mb-policy default: tenant.conf names no file in mb_refstate');
  }
  const text = (await readInput(name, 'measured-boot policy')).toString('utf8');
  const json = parseJson(text);
  if (json === undefined) throw new TenantError('policy_invalid', `The measured-boot policy ${name} is not JSON`);
  if (isEmptyReference(text)) log.warn(`${name} says nothing: no boot is judged by it`);
  return pythonJson(json);
}
