import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import type { AgentId } from '@keylime/core/agent-id';
import { authTag, encodeChallenge, makeCredential, type RandomSource } from '@keylime/tpm/credential';
import { decodePublic, objectName } from '@keylime/tpm/public';
import type { CompleteRegistration } from './registration.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz';
const SECRET_LENGTH = 32;

/** A question that only the TPM with the registration's EK and AK can answer. */
export type Challenge = {
  /** The credential for TPM2_ActivateCredential, behind tpm2-tools' header. */
  readonly blob: Buffer;
  /** SHA-256 of the right answer: whoever reads the database cannot activate with it. */
  readonly tagDigest: Buffer;
};

/**
 * Makes a challenge (spec 02 section 2.5): 32 random characters, wrapped for the EK and bound to the AK's Name.
 * @throws TpmKeyError if the EK cannot wrap a secret.
 */
export function makeChallenge(
  agentId: AgentId,
  { ekPublic, akPublic }: CompleteRegistration,
  random: RandomSource = randomBytes,
): Challenge {
  const secret = Buffer.from(
    Array.from({ length: SECRET_LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join(''),
  );
  const ek = decodePublic(ekPublic);
  const akName = objectName(decodePublic(akPublic));
  const blob = encodeChallenge(makeCredential({ ek, akName, secret, random }));
  return { blob, tagDigest: digestOfTag(authTag(secret.toString('base64'), agentId)) };
}

/** What is stored of an auth tag. */
export const digestOfTag = (tag: string): Buffer => createHash('sha256').update(tag, 'utf8').digest();

/** Whether two digests of tags are the same, in constant time. */
export const sameTag = (a: Buffer, b: Buffer): boolean => a.length === b.length && timingSafeEqual(a, b);
