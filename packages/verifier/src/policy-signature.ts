import { createPublicKey, type KeyObject } from 'node:crypto';
import type { FailureEvent } from '@keylime/appraisal/event';
import { parseEnvelope, verifyEnvelope } from '@keylime/policies/dsse';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import type { StoredPolicy } from './policy-store.ts';

/** Whose signature a runtime policy needs. */
export type SignatureSettings = {
  /** Refuse what is not signed. */
  readonly requireSignature: boolean;
  /** Keys of whom to believe; with none, a policy is checked with the key that comes with it, if it must be. */
  readonly pinnedKeys: readonly KeyObject[];
};

/** A stored runtime policy must not be used by the settings of now: that is a verdict, not a fault. */
export class PolicyNotSignedError extends Error {
  override readonly name = 'PolicyNotSignedError';
  readonly code = 'policy_not_signed';
  constructor(policyName: string, problem: string) {
    super(`The runtime policy '${policyName}' cannot be used: ${problem}. Sign it and store it again.`);
  }
}

/**
 * Why a policy must not be used that was stored under other settings, perhaps, or `undefined` if it may be. It is judged by
 * the keys of now; where none are pinned, by the key that it was stored with, if it was checked then.
 */
export function signatureProblem(
  { text, signature_key: keyPem }: Pick<StoredPolicy, 'text' | 'signature_key'>,
  { requireSignature, pinnedKeys }: SignatureSettings,
): string | undefined {
  // The policy that accepts nothing needs nobody's signature.
  if (!requireSignature || text === EMPTY_RUNTIME_POLICY_TEXT) return undefined;
  const envelope = parseEnvelope(text);
  if (!envelope.ok) return 'signatures are required (require_allow_list_signatures), and it has none';
  if (pinnedKeys.length > 0) {
    return verifyEnvelope(envelope.value, pinnedKeys)
      ? undefined
      : 'its signature is by none of the keys of runtime_policy_signature_keys';
  }
  if (keyPem === null) return 'its signature was not checked when it was stored';
  return verifyEnvelope(envelope.value, [createPublicKey(keyPem)])
    ? undefined
    : 'its signature is not by the key that it was stored with';
}

/** What it means for an agent that its policy must not be used. */
export const policyNotSignedEvent = ({ message }: PolicyNotSignedError): FailureEvent => ({
  eventId: 'internal.verifier.policy_not_signed',
  recoverable: false,
  context: { message },
});
