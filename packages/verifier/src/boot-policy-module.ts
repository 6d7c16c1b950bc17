import { isJsonObject } from '@keylime/core/json';
import { BOOT_PCR_MASK } from '@keylime/measured-boot/boot-pcrs';
import type { MeasuredBootPolicy } from '@keylime/measured-boot/policy';

const POLICY_NAME = /^[\w.-]{1,64}$/;

const isBootPcr = (pcr: unknown): boolean =>
  typeof pcr === 'number' && Number.isInteger(pcr) && pcr >= 0 && pcr < 16 && ((BOOT_PCR_MASK >>> pcr) & 1) === 1;

/** The policies that a module exports as `policies`. @throws TypeError that says what they lack */
export function readPolicyModule(module: { readonly [name: string]: unknown }): readonly MeasuredBootPolicy[] {
  const { policies } = module;
  if (!Array.isArray(policies) || policies.length === 0) {
    throw new TypeError('a module exports its measured-boot policies as `policies`, a list with at least one');
  }
  return policies.map((policy: unknown) => {
    if (!isJsonObject(policy) || typeof policy.name !== 'string' || !POLICY_NAME.test(policy.name)) {
      throw new TypeError('a measured-boot policy has a `name` of 1 to 64 letters, digits, `_`, `.` and `-`');
    }
    const { name, pcrs, decodeReference, evaluate } = policy as { readonly [key: string]: unknown };
    if (typeof decodeReference !== 'function' || typeof evaluate !== 'function') {
      throw new TypeError(`measured-boot policy ${name} has no functions \`decodeReference\` and \`evaluate\``);
    }
    if (!Array.isArray(pcrs) || pcrs.length === 0 || !pcrs.every(isBootPcr)) {
      throw new TypeError(
        `measured-boot policy ${name}: \`pcrs\` is a list of PCRs of 0 to 9 and 11 to 15, with at least one`,
      );
    }
    return policy as unknown as MeasuredBootPolicy;
  });
}
