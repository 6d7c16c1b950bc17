import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { digest } from '@keylime/core/digest';
import { encodeKeyring } from '@keylime/ima/keyring';
import { computedKeyId } from '@keylime/ima/public-key';
import { signatureBlob } from '@keylime/ima/signing-key.fixture';
import { type KernelRecord, recorded } from './ima-records.ts';

/** Signs files of a measurement list. */
export type Signer = { readonly privateKey: KeyObject; readonly publicKey: KeyObject; readonly keyId: number };

export function signer(namedCurve: string): Signer {
  const pair = generateKeyPairSync('ec', { namedCurve });
  return { ...pair, keyId: computedKeyId(pair.publicKey) };
}

/** A file whose content is its path, signed as `evmctl` does: what is signed is the SHA-256 of the content. */
export function signedFile({ privateKey, keyId }: Signer, path: string, content = path): KernelRecord {
  const signature = sign('sha256', Buffer.from(content), privateKey);
  const blob = signatureBlob({ type: 3, version: 2, hashId: 4, keyId }, signature);
  return recorded(
    `ima-sig sha256:${digest('sha256', Buffer.from(path)).toString('hex')} ${path} ${blob.toString('hex')}`,
  );
}

export const signedFiles = (by: Signer, count: number): readonly KernelRecord[] =>
  Array.from({ length: count }, (_, i) => signedFile(by, `/opt/signed-${i}`));

/** What an enrolment says of it. */
export const trusting = ({ publicKey: key, keyId }: Signer) => ({
  ima_sign_verification_keys: JSON.stringify(encodeKeyring([{ key, keyId }])),
});
