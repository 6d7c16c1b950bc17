import type { PublicKey, VerifyMessageResult } from 'openpgp';
import { readInput } from './files.ts';
import { reason, ToolError } from './tool-error.ts';

/** Public keys that an operator trusts. */
export type OpenPgpKeys = readonly PublicKey[];

/** Large, and rarely needed. */
const load = () => import('openpgp');

/** The keys in files that an operator names. @throws ToolError `file_unreadable`, `key_invalid` */
export async function readOpenPgpKeys(files: readonly string[]): Promise<OpenPgpKeys> {
  const keys = await Promise.all(files.map(async (file) => parseOpenPgpKeys(await readInput(file, 'key'), file)));
  return keys.flat();
}

/** What tells these very keys, all of them valid, from any others; `undefined` without a key, and if one is not valid. */
export async function validFingerprints(keys: OpenPgpKeys, now: Date): Promise<string | undefined> {
  if (keys.length === 0) return undefined;
  try {
    for (const key of keys) await key.verifyPrimaryKey(now);
  } catch {
    return undefined;
  }
  return keys
    .map((key) => key.getFingerprint())
    .sort()
    .join(' ');
}

/** The keys in a file called `name`, armoured or not. @throws ToolError `key_invalid` */
export async function parseOpenPgpKeys(bytes: Uint8Array, name: string): Promise<OpenPgpKeys> {
  const { readKeys } = await load();
  const text = Buffer.from(bytes).toString('latin1');
  const isArmored = text.includes('-----BEGIN PGP PUBLIC KEY BLOCK-----');
  try {
    const keys = await (isArmored ? readKeys({ armoredKeys: text }) : readKeys({ binaryKeys: Uint8Array.from(bytes) }));
    return keys.map((key) => key.toPublic());
  } catch (cause) {
    throw new ToolError('key_invalid', `${name} has no OpenPGP key that can be read: ${reason(cause)}`, { cause });
  }
}

/**
 * Checks a detached signature, armoured or not: at least one signature must be by one of `keys`, and none by them may be
 * bad. Signatures of other keys say nothing.
 * @throws ToolError `repository_signature`
 */
export async function verifyDetached(
  what: string,
  content: Uint8Array,
  signatureBytes: Uint8Array,
  keys: OpenPgpKeys,
  now: Date,
): Promise<void> {
  const { createMessage, readSignature, verify } = await load();
  const text = Buffer.from(signatureBytes).toString('latin1');
  await checked(what, keys, now, async () => {
    const signature = await (text.includes('-----BEGIN PGP SIGNATURE-----')
      ? readSignature({ armoredSignature: text })
      : readSignature({ binarySignature: Uint8Array.from(signatureBytes) }));
    const message = await createMessage({ binary: Uint8Array.from(content) });
    return (await verify({ message, signature, verificationKeys: [...keys], date: now })).signatures;
  });
}

/** The text that a clear-signed file signs; the same rule. @throws ToolError `repository_signature` */
export async function verifyClearSigned(what: string, text: string, keys: OpenPgpKeys, now: Date): Promise<string> {
  const { readCleartextMessage, verify } = await load();
  let signed = '';
  await checked(what, keys, now, async () => {
    const message = await readCleartextMessage({ cleartextMessage: text });
    const { data, signatures } = await verify({ message, verificationKeys: [...keys], date: now });
    signed = data;
    return signatures;
  });
  return signed;
}

async function checked(
  what: string,
  keys: OpenPgpKeys,
  now: Date,
  signatures: () => Promise<VerifyMessageResult['signatures']>,
): Promise<void> {
  const refused = (why: string, cause?: unknown) =>
    new ToolError('repository_signature', `The signature of ${what} is not good: ${why}`, { cause });
  let good = 0;
  try {
    for (const { keyID, verified } of await signatures()) {
      const signers = keys.filter((key) => key.getKeys(keyID).length > 0);
      if (signers.length === 0) {
        verified.catch(() => {});
        continue;
      }
      await verified;
      // A signature stays good when its key expires; here a key that is no longer valid is not to be relied on.
      for (const signer of signers) await signer.verifyPrimaryKey(now);
      good++;
    }
  } catch (cause) {
    throw refused(reason(cause), cause);
  }
  if (good === 0) throw refused('it is by none of the keys that were given');
}
