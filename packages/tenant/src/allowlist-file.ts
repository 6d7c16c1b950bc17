import { pythonJson } from '@keylime/api/python-json';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { convertAllowlist, convertRuntimePolicy } from '@keylime/policies/legacy-allowlist';
import { isSignedPolicy } from '@keylime/policies/runtime-policy';
import type { Log } from '@keylime/service/log';
import { readInput } from './runtime-policy-file.ts';
import { TenantError } from './tenant-error.ts';

/**
 * The runtime policy that an allowlist and an exclude list of earlier versions amount to, as the text to send; the
 * allowlist may be a runtime policy already (03 section 10 of the reference). @throws TenantError
 */
export async function readAllowlist(file: string, excludeFile: string | undefined, log: Log): Promise<Buffer> {
  log.warn('--allowlist is deprecated: use --runtime-policy');
  const bytes = await readInput(file, 'allowlist');
  const excludes =
    excludeFile === undefined ? undefined : (await readInput(excludeFile, 'exclude list')).toString('utf8');
  const text = bytes.toString('utf8');
  const json = parseJson(text);
  const isPolicy = isJsonObject(json) && Object.hasOwn(json, 'digests');
  if (json !== undefined && isSignedPolicy(json)) {
    throw new TenantError('policy_signature', `${file} is a signed policy: use --runtime-policy and its key`);
  }
  if (isPolicy && excludes === undefined) return bytes;
  const options = { excludes, timestamp: localTimestamp(new Date()) };
  const converted = isPolicy ? convertRuntimePolicy(text, options) : convertAllowlist(text, options);
  if (!converted.ok) {
    throw new TenantError('policy_invalid', `The allowlist ${file} cannot be converted: ${converted.problem}`);
  }
  for (const line of converted.value.skipped)
    log.warn(`${file}: a line without a path was left out: ${line.slice(0, 100)}`);
  return Buffer.from(pythonJson(converted.value.policy));
}

/** `YYYY-MM-DD HH:MM:SS.ffffff` in local time, as existing tools write it. */
export function localTimestamp(now: Date): string {
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().replace('T', ' ').replace('Z', '000');
}
