import type { Arguments } from './options.ts';

/**
 * What is wrong with a combination of options, or `undefined`; the first of the checks of spec 07 section 3.3 that fails,
 * in that order. [MUST] A policy from a URL needs a checksum.
 */
export function usageProblem(given: Arguments): string | undefined {
  const adds = given.command === 'addallowlist' || given.command === 'addruntimepolicy';
  const policy = given.runtimePolicy || given.runtimePolicyUrl;
  if (adds && !given.allowlist && !given.allowlistUrl && !policy) {
    return '--allowlist or --runtime_policy is required to add a runtime policy';
  }
  if (given.exclude && !given.allowlist) return '--exclude needs --allowlist';
  if (given.allowlist && given.allowlistUrl) return '--allowlist and --allowlist-url cannot be used together';
  if (given.runtimePolicy && given.runtimePolicyUrl) {
    return '--runtime-policy and --runtime-policy-url cannot be used together';
  }
  if (given.runtimePolicyUrl && !given.runtimePolicyChecksum) {
    return '--runtime-policy-url needs --runtime-policy-checksum, or anybody in the path could replace the policy';
  }
  if (given.runtimePolicyChecksum && !policy) {
    return '--runtime-policy-checksum needs --runtime-policy or --runtime-policy-url';
  }
  // Without this the policy would be replaced by an empty one, which the existing tool does (spec 07 section 3.3).
  if (given.command === 'updateruntimepolicy' && !given.allowlist && !given.allowlistUrl && !policy) {
    return '--runtime-policy is required to update a runtime policy';
  }
  const writesMb = given.command === 'addmbpolicy' || given.command === 'updatembpolicy';
  // Likewise: the existing tool would store nothing under the name.
  if (writesMb && !given.mbPolicy && !given.mbPolicyRules) {
    return '--mb-policy is required to add or update a measured-boot policy';
  }
  if (!writesMb && given.mbPolicyName && given.mbPolicyRules && !given.mbPolicy) {
    return '--mb-policy-rules: the policy that --mb-policy-name names has rules of its own';
  }
  return undefined;
}
