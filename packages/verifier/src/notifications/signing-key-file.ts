import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { CodedError } from '@keylime/core/coded-error';
import { createFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import { type SecretVault, SecretVaultError } from '../secret-vault.ts';

/** A key that signs notifications, and its certificate. */
export type SigningKey = { readonly key: KeyObject; readonly certificate: X509Certificate };

export class SigningKeyError extends CodedError<'signing_key_unusable'> {}

/** Behind the certificate, in one file, so that they are always of one another. */
const SEALED = /^sealed key: (\S+)$/m;

/** Keeps the key sealed, its certificate readable. */
export const writeSigningKey = (file: string, one: SigningKey, vault: SecretVault): Promise<void> =>
  replaceFile(file, sealedText(one, vault), PRIVATE_FILE_MODE);

/** As `writeSigningKey`; of several processes one makes the file, which all then read. */
export async function createSigningKey(file: string, one: SigningKey, vault: SecretVault): Promise<SigningKey> {
  await createFile(file, sealedText(one, vault), PRIVATE_FILE_MODE);
  return readSigningKey(file, vault);
}

function sealedText({ key, certificate }: SigningKey, vault: SecretVault): string {
  const secret = key.export({ format: 'der', type: 'pkcs8' });
  try {
    return `${certificate}sealed key: ${vault.seal(certificate.fingerprint256, 'signing key', secret)}\n`;
  } finally {
    secret.fill(0);
  }
}

/**
 * Reads what `writeSigningKey` wrote. A key that was sealed under another key than the vault's first, or that an earlier
 * version left in the clear, is sealed on this occasion. @throws SigningKeyError, SecretVaultError
 */
export async function readSigningKey(file: string, vault: SecretVault): Promise<SigningKey> {
  const text = await readFile(file, 'utf8');
  const sealed = SEALED.exec(text)?.[1];
  try {
    const certificate = new X509Certificate(text);
    const key = sealed === undefined ? createPrivateKey(text) : unsealed(sealed, certificate, vault);
    if (key.asymmetricKeyType === 'rsa' && certificate.checkPrivateKey(key)) {
      if (sealed === undefined || vault.isOutdated(sealed)) await writeSigningKey(file, { key, certificate }, vault);
      return { key, certificate };
    }
  } catch (cause) {
    if (cause instanceof SecretVaultError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SigningKeyError('signing_key_unusable', `${file} cannot be used: ${why}`, { cause });
  }
  throw new SigningKeyError(
    'signing_key_unusable',
    `${file} must hold an RSA key and its certificate: move it away, and a new one is made`,
  );
}

function unsealed(sealed: string, certificate: X509Certificate, vault: SecretVault): KeyObject {
  const secret = vault.open(certificate.fingerprint256, 'signing key', sealed);
  try {
    return createPrivateKey({ key: secret, format: 'der', type: 'pkcs8' });
  } finally {
    secret.fill(0);
  }
}
