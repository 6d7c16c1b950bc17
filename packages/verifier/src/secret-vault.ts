import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseBase64 } from '@keylime/core/base64';
import { CodedError } from '@keylime/core/coded-error';
import { createFile, makePrivateFolder, PRIVATE_FILE_MODE } from '@keylime/pki/safe-files';

/**
 * What is kept sealed: of an agent, the verifier's half of a payload key, raw, or the key of its revocations, PEM; of a
 * certificate, the key that signs revocations, PKCS #8.
 */
export type SecretKind = 'key share' | 'revocation key' | 'signing key';

/** Secrets for the database and for files: sealed, they say nothing to whoever reads them. */
export type SecretVault = {
  /** A secret as text. The same secret is another text each time. `owner` is whose it is: an agent's id, for example. */
  readonly seal: (owner: string, kind: SecretKind, secret: Uint8Array) => string;
  /** @throws SecretVaultError if it is another owner's, of another kind or was changed, or its key is not configured */
  readonly open: (owner: string, kind: SecretKind, sealed: string) => Buffer;
  /** Whether it was sealed under a key that is not the first one any more. */
  readonly isOutdated: (sealed: string) => boolean;
  /** Whether the key that sealed it is there. */
  readonly hasKeyOf: (sealed: string) => boolean;
};

/** A secret that cannot be opened, or a key that cannot be used. The message names what to do and holds no secret. */
export class SecretVaultError extends CodedError<'key_file_unusable' | 'key_not_configured' | 'secret_damaged'> {}

/** What to do where a secret is lost. */
const REMEDIES: { readonly [kind in SecretKind]: string } = {
  'key share': 'enrol the agent anew',
  'revocation key': 'enrol the agent anew',
  'signing key': 'move revocation_keys away, start anew, and give the agents the new certificates',
};

/** Bytes of a key: AES-256. */
const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';

/** File that `default` names, in the work directory: made at the first start. */
export const DEFAULT_KEY_FILE = 'secret.key';

type Key = { readonly id: string; readonly key: Buffer };

/**
 * Seals with AES-256-GCM under the first of `keys`, opens under any. A sealed secret is `KEYID.base64(IV ‖ ciphertext ‖ tag)`;
 * `place` (a verifier's id for its rows, a folder's name for files), owner and kind are authenticated with it, so that one
 * that was moved to another place does not open.
 */
export function secretVault(keys: readonly [Buffer, ...Buffer[]], place: string): SecretVault {
  const known = keys.map((key): Key => ({ id: createHash('sha256').update(key).digest('hex').slice(0, 16), key }));
  const current = known[0] as Key;
  const context = (owner: string, kind: SecretKind) => Buffer.from(JSON.stringify([`keylime ${kind}`, place, owner]));
  return {
    seal(owner, kind, secret) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv(CIPHER, current.key, iv).setAAD(context(owner, kind));
      const text = Buffer.concat([iv, cipher.update(secret), cipher.final(), cipher.getAuthTag()]).toString('base64');
      return `${current.id}.${text}`;
    },
    open(owner, kind, sealed) {
      const id = keyIdOf(sealed);
      const found = known.find((one) => one.id === id);
      if (found === undefined) {
        throw new SecretVaultError(
          'key_not_configured',
          `The ${kind} of ${owner} was sealed under the key ${id}, which is not in secret_keys: add its file again, or ${REMEDIES[kind]}.`,
        );
      }
      const bytes = parseBase64(sealed.slice(id.length + 1)) ?? Buffer.alloc(0);
      try {
        const iv = bytes.subarray(0, IV_BYTES);
        const decipher = createDecipheriv(CIPHER, found.key, iv, { authTagLength: TAG_BYTES })
          .setAAD(context(owner, kind))
          .setAuthTag(bytes.subarray(-TAG_BYTES));
        return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()]);
      } catch {
        throw new SecretVaultError(
          'secret_damaged',
          `The ${kind} of ${owner} was changed where it is kept, or is of another owner: ${REMEDIES[kind]}.`,
        );
      }
    },
    isOutdated: (sealed) => keyIdOf(sealed) !== current.id,
    hasKeyOf: (sealed) => known.some(({ id }) => id === keyIdOf(sealed)),
  };
}

const keyIdOf = (sealed: string): string => sealed.split('.', 1)[0] ?? '';

/**
 * The keys in the files that an operator names, relative to `workDir`; `default` is one in the work directory that is made
 * when it is missing. Each file holds 32 bytes in base64.
 * @throws SecretVaultError
 */
export async function readSecretKeys(files: readonly string[], workDir: string): Promise<[Buffer, ...Buffer[]]> {
  const named = files.filter((file) => file !== '');
  const [first = 'default', ...others] = named;
  const keys: [Buffer, ...Buffer[]] = [await readKey(first, workDir)];
  for (const file of others) keys.push(await readKey(file, workDir));
  return keys;
}

async function readKey(name: string, workDir: string): Promise<Buffer> {
  const file = path.resolve(workDir, name === 'default' ? DEFAULT_KEY_FILE : name);
  try {
    if (name === 'default') {
      await makePrivateFolder(workDir);
      await createFile(file, `${randomBytes(KEY_BYTES).toString('base64')}\n`, PRIVATE_FILE_MODE);
    }
    const key = parseBase64((await readFile(file, 'utf8')).trim());
    if (key?.length === KEY_BYTES) return key;
  } catch (error) {
    throw unusable(file, error instanceof Error ? error.message : String(error));
  }
  throw unusable(
    file,
    `it must hold ${KEY_BYTES} bytes in base64, as "head -c ${KEY_BYTES} /dev/urandom | base64" makes`,
  );
}

const unusable = (file: string, why: string) =>
  new SecretVaultError('key_file_unusable', `secret_keys: ${file} cannot be used: ${why}`);
