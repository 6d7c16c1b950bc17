import { createPublicKey, verify } from 'node:crypto';

/** What is wrong with a detached signature, in words; `undefined` if it is good. */
export type SignatureRefusal = string | undefined;

/**
 * Checks a detached signature of a file with the key that an operator names. The first line of the key says of which kind
 * both are: OpenPGP, or ECDSA with SHA-256 in DER (base64 or not). OpenPGP signatures and keys must be valid at `now`, and
 * every signature of a file must be good. Other keys verify nothing.
 */
export async function refuseDetachedSignature(
  content: Uint8Array,
  signature: Uint8Array,
  keyText: string,
  now: Date,
): Promise<SignatureRefusal> {
  const [firstLine = ''] = keyText.trimStart().split(/\r?\n/, 1);
  switch (firstLine.trim()) {
    case '-----BEGIN PGP PUBLIC KEY BLOCK-----':
      return refuseOpenPgp(content, signature, keyText, now);
    case '-----BEGIN PUBLIC KEY-----':
      return refuseEcdsa(content, signature, keyText);
    default:
      return 'the key is neither an OpenPGP public key block nor a public key in PEM';
  }
}

function refuseEcdsa(content: Uint8Array, signature: Uint8Array, pem: string): SignatureRefusal {
  try {
    const key = createPublicKey(pem);
    if (key.asymmetricKeyType !== 'ec') return `the key is of type ${key.asymmetricKeyType}: an EC key is wanted`;
    return verify('sha256', content, key, signature) ? undefined : 'the signature is not by that key over that file';
  } catch {
    return 'the key cannot be read';
  }
}

async function refuseOpenPgp(
  content: Uint8Array,
  bytes: Uint8Array,
  armoredKey: string,
  now: Date,
): Promise<SignatureRefusal> {
  // Large, and rarely needed.
  const { createMessage, readKeys, readSignature, verify: verifyOpenPgp } = await import('openpgp');
  try {
    const verificationKeys = await readKeys({ armoredKeys: armoredKey });
    const text = Buffer.from(bytes).toString('latin1');
    const signature = await (text.startsWith('-----BEGIN PGP SIGNATURE-----')
      ? readSignature({ armoredSignature: text })
      : readSignature({ binarySignature: bytes }));
    const message = await createMessage({ binary: content });
    const { signatures } = await verifyOpenPgp({ message, signature, verificationKeys, date: now });
    if (signatures.length === 0) return 'there is no signature in it';
    for (const { verified, keyID } of signatures) {
      await verified;
      // A signature stays good when its key expires; here a key that is no longer valid is not to be relied on.
      for (const key of verificationKeys.filter((one) => one.getKeys(keyID).length > 0))
        await key.verifyPrimaryKey(now);
    }
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
