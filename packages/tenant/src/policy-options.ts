import type { Log } from '@keylime/service/log';
import type { Arguments } from './options.ts';
import { isRuntimePolicy, readRuntimePolicy } from './runtime-policy-file.ts';
import { TenantError } from './tenant-error.ts';
import { maskText, readTpmPolicy, tpmPolicyText, withImaPcr } from './tpm-policy-option.ts';

/** The policies of an agent or of a named policy, encoded as the verifier's API takes them (spec 07 section 3.5). */
export type PolicyFields = {
  /** JSON text with `mask`. */
  readonly tpm_policy: string;
  /** base64 of the file, or empty. */
  readonly runtime_policy: string;
  /** base64 of the PEM of the key that signed it, or empty. */
  readonly runtime_policy_key: string;
  readonly runtime_policy_name: string;
};

/**
 * Turns the policy options into what is sent. Everything that can be checked here is, so that nothing is half done.
 * @throws TenantError
 */
export async function readPolicyOptions(given: Arguments, timeoutMs: number, log: Log): Promise<PolicyFields> {
  const plain = readTpmPolicy(given.tpmPolicy ?? '{}');
  log.info(`TPM PCR Mask from policy is ${maskText(plain)}`);
  const file = given.runtimePolicy ?? (await allowlistFile(given, log));
  const name = given.runtimePolicyName ?? given.allowlistName;
  const usesIma = file !== undefined || given.runtimePolicyUrl !== undefined || name !== undefined;
  const source = {
    file,
    url: given.runtimePolicyUrl,
    checksum: given.runtimePolicyChecksum,
    signatureKeyFile: given.runtimePolicySigKey,
  };
  const none = { policy: Buffer.alloc(0), key: Buffer.alloc(0) };
  if (!source.file && !source.url && source.signatureKeyFile) {
    throw new TenantError(
      'invalid_argument',
      '--runtime-policy-sig-key needs --runtime-policy or --runtime-policy-url',
    );
  }
  const read = source.file || source.url ? await readRuntimePolicy(source, timeoutMs, log) : none;
  return {
    tpm_policy: tpmPolicyText(usesIma ? withImaPcr(plain) : plain),
    runtime_policy: read.policy.toString('base64'),
    runtime_policy_key: read.key.toString('base64'),
    runtime_policy_name: name ?? '',
  };
}

/** [compat] `--allowlist` with a file that is a runtime policy already. */
async function allowlistFile(given: Arguments, log: Log): Promise<string | undefined> {
  if (given.allowlist === undefined) return undefined;
  log.warn('--allowlist is deprecated: use --runtime-policy');
  if (await isRuntimePolicy(given.allowlist)) return given.allowlist;
  throw new TenantError(
    'unsupported',
    `conversion of allowlists is not supported by this version yet: ${given.allowlist} is no runtime policy, ` +
      'convert it with keylime_convert_runtime_policy and use --runtime-policy',
  );
}
