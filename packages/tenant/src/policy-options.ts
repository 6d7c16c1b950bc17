import { IMA_EXTEND_MODES, type ImaExtendMode } from '@keylime/ima/replay';
import type { Log } from '@keylime/service/log';
import { readAllowlist } from './allowlist-file.ts';
import { readMbPolicy } from './mb-policy-file.ts';
import type { Arguments } from './options.ts';
import { readRuntimePolicy } from './runtime-policy-file.ts';
import { readSignatureKeys } from './signature-keys.ts';
import { TenantError } from './tenant-error.ts';
import { maskText, readTpmPolicy, tpmPolicyText, withBootPcrs, withImaPcr } from './tpm-policy-option.ts';

/** The policies of an agent or of a named policy, encoded as the verifier's API takes them (spec 07 section 3.5). */
export type PolicyFields = {
  /** JSON text with `mask`. */
  readonly tpm_policy: string;
  /** base64 of the file, or empty. */
  readonly runtime_policy: string;
  /** base64 of the PEM of the key that signed it, or empty. */
  readonly runtime_policy_key: string;
  readonly runtime_policy_name: string;
  /** JSON text of a keyring, or empty. */
  readonly ima_sign_verification_keys: string;
  /** Only sent if it is given. */
  readonly ima_extend_mode?: ImaExtendMode;
  /** JSON text of a reference state. */
  readonly mb_policy: string | null;
  readonly mb_policy_name: string;
  /** Only sent if it is given: the existing verifier has no such thing. */
  readonly mb_policy_rules?: string;
};

export type PolicySettings = {
  readonly requestTimeoutMs: number;
  /** The file that `--mb-policy default` stands for; empty for none. */
  readonly mbReferenceFile: string;
};

/**
 * Turns the policy options into what is sent. Everything that can be checked here is, so that nothing is half done.
 * @throws TenantError
 */
export async function readPolicyOptions(
  given: Arguments,
  { requestTimeoutMs: timeoutMs, mbReferenceFile }: PolicySettings,
  log: Log,
): Promise<PolicyFields> {
  const plain = readTpmPolicy(given.tpmPolicy ?? '{}');
  log.info(`TPM PCR Mask from policy is ${maskText(plain)}`);
  const file = given.runtimePolicy;
  const name = given.runtimePolicyName ?? given.allowlistName;
  const signatureKeys = await readSignatureKeys(given, timeoutMs, log);
  const usesIma =
    signatureKeys !== '' ||
    given.allowlist !== undefined ||
    file !== undefined ||
    given.runtimePolicyUrl !== undefined ||
    name !== undefined;
  const source = {
    file,
    url: given.runtimePolicyUrl,
    checksum: given.runtimePolicyChecksum,
    signatureKeyFile: given.runtimePolicySigKey,
  };
  if (!source.file && !source.url && source.signatureKeyFile) {
    throw new TenantError(
      'invalid_argument',
      '--runtime-policy-sig-key needs --runtime-policy or --runtime-policy-url',
    );
  }
  const read =
    source.file || source.url
      ? await readRuntimePolicy(source, timeoutMs, log)
      : { policy: await allowlistPolicy(given, log), key: Buffer.alloc(0) };
  const { mbPolicy, mbPolicyName, mbPolicyRules } = given;
  const judgesBoot = mbPolicy !== undefined || mbPolicyName !== undefined || mbPolicyRules !== undefined;
  const tpmPolicy = judgesBoot ? withBootPcrs(plain) : plain;
  if (judgesBoot) {
    log.info(`TPM PCR Mask automatically modified is ${maskText(tpmPolicy)} to include IMA/Event log PCRs`);
  }
  return {
    tpm_policy: tpmPolicyText(usesIma ? withImaPcr(tpmPolicy) : tpmPolicy),
    runtime_policy: read.policy.toString('base64'),
    runtime_policy_key: read.key.toString('base64'),
    runtime_policy_name: name ?? '',
    ima_sign_verification_keys: signatureKeys,
    ...readExtendMode(given.imaExtendMode),
    mb_policy: mbPolicy === undefined ? null : await readMbPolicy(mbPolicy, mbReferenceFile, log),
    mb_policy_name: mbPolicyName ?? '',
    ...(mbPolicyRules !== undefined && { mb_policy_rules: mbPolicyRules }),
  };
}

function readExtendMode(text: string | undefined): Pick<PolicyFields, 'ima_extend_mode'> {
  if (text === undefined) return {};
  const mode = IMA_EXTEND_MODES.find((one) => one === text);
  if (mode !== undefined) return { ima_extend_mode: mode };
  throw new TenantError('invalid_argument', `--ima-extend-mode must be one of ${IMA_EXTEND_MODES.join(', ')}`);
}

const allowlistPolicy = async ({ allowlist, exclude }: Arguments, log: Log): Promise<Buffer> =>
  allowlist === undefined ? Buffer.alloc(0) : readAllowlist(allowlist, exclude, log);
