import type { KeyObject } from 'node:crypto';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { BootExpectation } from '@keylime/appraisal/measured-boot';
import { parseBase64 } from '@keylime/core/base64';
import { ownCopy } from '@keylime/core/own-copy';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { type Keyring, parseKeyring } from '@keylime/ima/keyring';
import type { ImaExtendMode } from '@keylime/ima/replay';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { decodeTpmPolicy, type TpmPolicy } from '@keylime/policies/tpm-policy';
import { decodePublic, publicKey, type TpmtPublic } from '@keylime/tpm/public';
import type { Agent } from './agent.ts';
import type { MbPolicy } from './mb-policy.ts';
import type { PolicyRegistry } from './policy-registry.ts';
import { PolicyNotSignedError, policyNotSignedEvent } from './policy-signature.ts';
import { CorruptRowError } from './stored-agent.ts';

/** What an agent is judged by, worked out once: keys and policies are decoded when it is loaded. */
export type Expectations = {
  readonly ak: TpmtPublic;
  readonly akKey: KeyObject;
  readonly tpmPolicy: TpmPolicy;
  /** Instead of the policy's; `undefined` where the enrolment names none. */
  readonly verificationKeys: Keyring | undefined;
  readonly violations: 'accept' | 'fail';
  readonly extendMode: ImaExtendMode;
};

/** How the verifier is set to judge what an enrolment does not say. */
export type JudgementSettings = {
  readonly violations: 'accept' | 'fail';
  /** Of agents whose enrolment names none. */
  readonly extendMode: ImaExtendMode;
};

/** @throws CorruptRowError */
export function expectationsOf(agent: Agent, { violations, extendMode }: JudgementSettings): Expectations {
  const akBytes = parseBase64(agent.akTpm);
  const tpmPolicy = decodeTpmPolicy(agent.tpmPolicy);
  if (akBytes === undefined || !tpmPolicy.ok) throw new CorruptRowError(agent.id, 'enrolment');
  const ak = decodePublic(ownCopy(akBytes));
  const keyring = agent.imaSignVerificationKeys === undefined ? undefined : parseKeyring(agent.imaSignVerificationKeys);
  if (keyring?.ok === false) throw new CorruptRowError(agent.id, 'enrolment');
  return {
    ak,
    akKey: publicKey(ak),
    tpmPolicy: tpmPolicy.value,
    verificationKeys: keyring?.value,
    violations,
    extendMode: agent.imaExtendMode ?? extendMode,
  };
}

/** Policies that others may change between two rounds. */
export type PoliciesOfRound = {
  readonly runtimePolicy: RuntimePolicy;
  /** Absent where the boot is not judged. */
  readonly measuredBoot: BootExpectation | undefined;
};

export type PolicySources = {
  readonly policies: PolicyRegistry<RuntimePolicy>;
  readonly mbPolicies: PolicyRegistry<MbPolicy>;
};

/**
 * The policies of an agent. One that must not be used is a failure of the agent, which nothing judges now; one that cannot be
 * used is a fault.
 * @throws PolicyUnusableError
 */
export async function policiesOf(
  { runtimePolicyName, mbPolicyName }: Agent,
  { policies, mbPolicies }: PolicySources,
): Promise<Parsed<PoliciesOfRound, FailureEvent>> {
  let runtimePolicy: RuntimePolicy;
  try {
    runtimePolicy = policies.peek(runtimePolicyName) ?? (await policies.get(runtimePolicyName));
  } catch (error) {
    if (error instanceof PolicyNotSignedError) return bad(policyNotSignedEvent(error));
    throw error;
  }
  if (mbPolicyName === undefined) return good({ runtimePolicy, measuredBoot: undefined });
  const mbPolicy = mbPolicies.peek(mbPolicyName) ?? (await mbPolicies.get(mbPolicyName));
  return good({ runtimePolicy, measuredBoot: mbPolicy.expectation });
}
