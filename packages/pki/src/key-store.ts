import { createCipheriv, createDecipheriv, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { parseBase64 } from '@keylime/core/base64';
import { parse, stringify } from 'yaml';
import { PkiError } from './pki-error.ts';

/** What the CA's `private.yml` keeps. [compat] Format of the existing services (spec 07 section 6.2). */
export type KeyStore = {
  /** PKCS#8 PEM of the CA's private key, not encrypted. */
  readonly caKeyPem: string;
  /** Serial number given last; the CA itself has 1. */
  readonly lastSerial: number;
  /** Serial numbers of revoked certificates, decimal. */
  readonly revokedSerials: readonly string[];
  /** PKCS#8 PEM, perhaps encrypted, of every certificate's private key by the certificate's name. */
  readonly keys: ReadonlyMap<string, string>;
};

const derive = promisify(pbkdf2);
const PBKDF2_ROUNDS = 100_000;
const KEY_SIZE = 32;
const IV_SIZE = 16;
const TAG_SIZE = 16;
// Names in the inner map that are no certificate's.
const RESERVED = new Set(['ca', 'lastserial', 'revoked_keys']);

// [compat] The layout of PyYAML's SafeDumper, byte for byte: the existing services rewrite the file without truncating it, so
// that the end of a text of ours that was longer than theirs would stay behind theirs and spoil it.
const PYTHON_LAYOUT = {
  schema: 'yaml-1.1',
  sortMapEntries: true,
  lineWidth: 78,
  indentSeq: false,
  singleQuote: true,
} as const;

const pythonYaml = (value: object): string =>
  stringify(value, PYTHON_LAYOUT).replaceAll(/^(.*: !!binary \|)-$/gm, '$1');

/**
 * Decrypts the text of a `private.yml`: YAML `{salt, priv}` where `priv` is binary holding the base64 of IV (16 bytes),
 * AES-256-GCM ciphertext and tag (16); the key is PBKDF2-HMAC-SHA-256 of `password` with the bytes of the salt's *text*,
 * 100,000 rounds. Throws `PkiError` `wrong_password` or `malformed_key_store`.
 */
export async function decryptKeyStore(text: string, password: string): Promise<KeyStore> {
  const outer = readYaml(text);
  const { salt, priv } = outer;
  if (typeof salt !== 'string' || !(priv instanceof Uint8Array)) throw malformed('salt or priv is missing');
  const sealed = parseBase64(Buffer.from(priv).toString('latin1'));
  if (sealed === undefined || sealed.length < IV_SIZE + TAG_SIZE) throw malformed('priv is not base64');
  const key = await derive(password, salt, PBKDF2_ROUNDS, KEY_SIZE, 'sha256');
  const cipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_SIZE), { authTagLength: TAG_SIZE });
  cipher.setAuthTag(sealed.subarray(-TAG_SIZE));
  let plain: Buffer;
  try {
    plain = Buffer.concat([cipher.update(sealed.subarray(IV_SIZE, -TAG_SIZE)), cipher.final()]);
  } catch (cause) {
    throw new PkiError('wrong_password', "Invalid password for keystore: set [ca] password to the CA's one.", {
      cause,
    });
  }
  return decodeKeyStore(readYaml(plain.toString('utf8')));
}

/** The text of a `private.yml` with a new salt and IV, in the format that `decryptKeyStore` describes. */
export async function encryptKeyStore(store: KeyStore, password: string): Promise<string> {
  const inner: Record<string, unknown> = { ca: Buffer.from(store.caKeyPem) };
  for (const [name, pem] of store.keys) inner[name] = Buffer.from(pem);
  inner.lastserial = store.lastSerial;
  inner.revoked_keys = [...store.revokedSerials];
  const salt = randomBytes(KEY_SIZE).toString('base64');
  const iv = randomBytes(IV_SIZE);
  const key = await derive(password, salt, PBKDF2_ROUNDS, KEY_SIZE, 'sha256');
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_SIZE });
  const sealed = Buffer.concat([iv, cipher.update(pythonYaml(inner), 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return pythonYaml({ salt, priv: Buffer.from(sealed.toString('base64')) });
}

function decodeKeyStore(inner: Readonly<Record<string, unknown>>): KeyStore {
  const { ca, lastserial, revoked_keys: revoked } = inner;
  if (!(ca instanceof Uint8Array) || ca.length === 0) throw malformed('it holds no CA key');
  if (typeof lastserial !== 'number' || !Number.isSafeInteger(lastserial) || lastserial < 1) {
    throw malformed('lastserial is not a positive number');
  }
  if (!Array.isArray(revoked)) throw malformed('revoked_keys is not a list');
  const revokedSerials = revoked.map((serial) => {
    if (!/^\d{1,60}$/.test(String(serial))) throw malformed('revoked_keys holds something else than serial numbers');
    return String(serial);
  });
  const keys = new Map<string, string>();
  for (const [name, value] of Object.entries(inner)) {
    if (!RESERVED.has(name) && value instanceof Uint8Array) keys.set(name, Buffer.from(value).toString('utf8'));
  }
  return { caKeyPem: Buffer.from(ca).toString('utf8'), lastSerial: lastserial, revokedSerials, keys };
}

/** Whether a certificate of this name may be kept: it is a file name, and none of the store's own words. */
export const isCertificateName = (name: string): boolean =>
  /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/.test(name) && !RESERVED.has(name);

function readYaml(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parse(text, { schema: 'yaml-1.1', maxAliasCount: 0, prettyErrors: false });
  } catch {
    // The parser's message may quote the text, which can be key material.
    throw malformed('it is not YAML');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('it is not a YAML map');
  return value as Readonly<Record<string, unknown>>;
}

const malformed = (why: string): PkiError =>
  new PkiError('malformed_key_store', `The CA's key store (private.yml) is damaged: ${why}.`);
