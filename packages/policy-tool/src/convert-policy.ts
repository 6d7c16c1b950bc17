import { pythonJson } from '@keylime/api/python-json';
import { encodeKeyring, parseKeyring } from '@keylime/ima/keyring';
import { convertAllowlist, convertRuntimePolicy } from '@keylime/policies/legacy-allowlist';
import type { Log } from '@keylime/service/log';
import { readInput } from './files.ts';
import { timestamp } from './policy-draft.ts';
import { ToolError } from './tool-error.ts';
import { readVerificationKeys } from './verification-keys.ts';

/** The options of `convert`. */
export type ConvertOptions = {
  readonly allowlist?: string;
  readonly runtimePolicy?: string;
  readonly excludelist?: string;
  readonly verificationKey?: readonly string[];
};

/** Makes a runtime policy of an allowlist or a policy of an older version. @throws ToolError */
export async function convertLegacy(options: ConvertOptions, now: Date, log: Log): Promise<string> {
  const { allowlist, runtimePolicy, excludelist, verificationKey = [] } = options;
  const file = allowlist ?? runtimePolicy;
  if (file === undefined || (allowlist !== undefined && runtimePolicy !== undefined)) {
    throw new ToolError('usage', 'Give either --allowlist or --runtime-policy');
  }
  const text = (await readInput(file, allowlist === undefined ? 'policy' : 'allowlist')).toString('utf8');
  const excludes = excludelist && (await readInput(excludelist, 'exclude list')).toString('utf8');
  const convert = allowlist === undefined ? convertRuntimePolicy : convertAllowlist;
  const converted = convert(text, { excludes, timestamp: timestamp(now) });
  if (!converted.ok) throw new ToolError('policy_invalid', `${file} cannot be converted: ${converted.problem}`);
  const { policy, skipped } = converted.value;
  if (skipped.length > 0)
    log.warn(`Skipped ${skipped.length} lines that are no digest and path`, { first: skipped[0] });
  if (verificationKey.length === 0) return pythonJson(policy);
  const old = policy['verification-keys'];
  const keyring = parseKeyring(typeof old === 'string' ? old : '');
  if (!keyring.ok) throw new ToolError('policy_invalid', `${file}: 'verification-keys': ${keyring.problem.message}`);
  const keys = new Map([...keyring.value, ...(await readVerificationKeys(verificationKey))]);
  return pythonJson({ ...policy, 'verification-keys': pythonJson(encodeKeyring(keys.values())) });
}
