import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { PkiError } from './pki-error.ts';
import { createFile, findFile, PRIVATE_FILE_MODE } from './safe-files.ts';

const generate = promisify(generateKeyPair);

/** A new RSA private key with public exponent 65537. */
export const generateRsaKey = async (bits: number): Promise<KeyObject> =>
  (await generate('rsa', { modulusLength: bits })).privateKey;

/** A new private key on P-256. */
export const generateP256Key = async (): Promise<KeyObject> =>
  (await generate('ec', { namedCurve: 'P-256' })).privateKey;

/** Kinds of keys for certificates. Existing agents take RSA alone for revocation messages; TLS takes all of them. */
export const KEY_TYPES = ['rsa', 'p256', 'p384', 'ed25519'] as const;
export type KeyType = (typeof KEY_TYPES)[number];

/** A new private key; `bits` is the size of an RSA key. */
export async function generateKeyOf(type: KeyType, bits: number): Promise<KeyObject> {
  switch (type) {
    case 'rsa':
      return generateRsaKey(bits);
    case 'p256':
      return generateP256Key();
    case 'p384':
      return (await generate('ec', { namedCurve: 'P-384' })).privateKey;
    case 'ed25519':
      return (await generate('ed25519')).privateKey;
  }
}

/** PKCS#8 PEM of `key`, encrypted with AES-256-CBC (PBES2) if a password is given; an empty one counts as none. */
export const privateKeyPem = (key: KeyObject, password?: string): string =>
  key
    .export({ format: 'pem', type: 'pkcs8', ...(password ? { cipher: 'aes-256-cbc', passphrase: password } : {}) })
    .toString();

/** SubjectPublicKeyInfo PEM of the public half of `key`. */
export const publicKeyPem = (key: KeyObject): string =>
  createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString();

/**
 * The private key in `pem` (PKCS#8, PKCS#1 or SEC 1). A password given for a key that is not encrypted is not used.
 * Throws `PkiError` `wrong_password` or `malformed_key`; `where` names the key in the message.
 */
export function parsePrivateKey(pem: string | Buffer, where: string, password?: string): KeyObject {
  const text = pem.toString();
  const encrypted = /-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text);
  if (encrypted && !password) {
    throw new PkiError('wrong_password', `${where} is encrypted and no password is set for it.`);
  }
  try {
    return createPrivateKey({ key: text, format: 'pem', ...(encrypted && password ? { passphrase: password } : {}) });
  } catch (cause) {
    if (encrypted) throw new PkiError('wrong_password', `The password does not decrypt ${where}.`, { cause });
    throw new PkiError('malformed_key', `${where} is not a private key in PEM.`, { cause });
  }
}

/** The private key in the file at `path`, or `undefined` if there is no such file; throws as `parsePrivateKey`. */
export async function findPrivateKey(path: string, password?: string): Promise<KeyObject | undefined> {
  const pem = await findFile(path);
  return pem === undefined ? undefined : parsePrivateKey(pem, path, password);
}

/**
 * The RSA private key of `path`; made there (PKCS#8 PEM, mode 0600, encrypted if `password` is given) if the file does not
 * exist. An existing file is never replaced: throws `PkiError` `wrong_key_type` if it holds no RSA key of at least `bits`
 * bits, `wrong_password` or `malformed_key` if it cannot be read.
 */
export async function ensureRsaKey(path: string, bits: number, password?: string): Promise<KeyObject> {
  const existing = await findPrivateKey(path, password);
  if (existing !== undefined) return requireRsa(existing, path, bits);
  const key = await generateRsaKey(bits);
  if (await createFile(path, privateKeyPem(key, password), PRIVATE_FILE_MODE)) return key;
  // Another process was faster; its key is the one.
  const other = await findPrivateKey(path, password);
  if (other === undefined) throw new PkiError('malformed_key', `${path} disappeared while it was being made.`);
  return requireRsa(other, path, bits);
}

function requireRsa(key: KeyObject, path: string, bits: number): KeyObject {
  const found = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType === 'rsa' && found >= bits) return key;
  const what =
    key.asymmetricKeyType === 'rsa' ? `an RSA key of ${found} bits` : `a key of type ${key.asymmetricKeyType}`;
  throw new PkiError('wrong_key_type', `${path} holds ${what}, not an RSA key of ${bits} bits: move it away.`);
}
