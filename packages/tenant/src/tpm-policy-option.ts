import { pythonJson } from '@keylime/api/python-json';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { BOOT_PCR_MASK } from '@keylime/measured-boot/boot-pcrs';
import { decodeTpmPolicy, type TpmPolicy } from '@keylime/policies/tpm-policy';
import { TenantError } from './tenant-error.ts';

const IMA_PCR = 10;

/**
 * What `--tpm_policy` says. [MUST] PCR 10 and PCR 16 are refused: they have meanings of their own (spec 07 section 3.5).
 * The mask is the tenant's to compute, so a `mask` in the text is refused as well.
 * @throws TenantError `policy_invalid`
 */
export function readTpmPolicy(text: string): TpmPolicy {
  const json = parseJson(text);
  if (isJsonObject(json) && Object.hasOwn(json, 'mask')) {
    throw new TenantError(
      'policy_invalid',
      'Invalid tpm policy pcr number: mask; the tenant works out the mask itself',
    );
  }
  const decoded = decodeTpmPolicy(text);
  if (decoded.ok) return decoded.value;
  throw new TenantError('policy_invalid', `--tpm_policy: ${decoded.problem.join('; ')}`);
}

/** `policy` with PCR 10 among the PCRs to quote. */
export const withImaPcr = (policy: TpmPolicy): TpmPolicy => ({ ...policy, mask: policy.mask | (1 << IMA_PCR) });

/**
 * `policy` with the PCRs of a boot among those to quote. [MUST] What they are to be is for the measured-boot policy to say:
 * values of them are refused, in words that suites of the field match.
 * @throws TenantError `policy_invalid`
 */
export function withBootPcrs(policy: TpmPolicy): TpmPolicy {
  const [pcr] = [...policy.pcrs.keys()].filter((one) => (BOOT_PCR_MASK >>> one) & 1).sort((a, b) => a - b);
  if (pcr === undefined) return { ...policy, mask: policy.mask | BOOT_PCR_MASK };
  throw new TenantError(
    'policy_invalid',
    `WARNING: PCR ${pcr} is specified in "tpm_policy", but will in fact be used by measured boot. Please remove it from policy`,
  );
}

export const maskText = ({ mask }: TpmPolicy): string => `0x${mask.toString(16)}`;

/** The JSON text for the verifier, as the existing tool writes it: digests by PCR number, then `mask`. */
export const tpmPolicyText = (policy: TpmPolicy): string =>
  pythonJson({
    ...Object.fromEntries([...policy.pcrs].map(([pcr, digests]) => [String(pcr), [...digests]])),
    mask: maskText(policy),
  });
