import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { parseBase64, parseHex } from '@keylime/core/base64';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';

/** The type of payload that Keylime signs. */
export const KEYLIME_PAYLOAD_TYPE = 'application/vnd.keylime+json';

/** A DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol 1.0.2). Decoding verifies nothing. */
export type DsseEnvelope = {
  readonly payload: Buffer;
  readonly payloadType: string;
  readonly signatures: NonEmpty<DsseSignature>;
};

/** `keyid` is a hint that nobody signed: no key is chosen by it. */
export type DsseSignature = { readonly keyid: string; readonly sig: Buffer };

/** Whether a JSON value is an envelope rather than what could be in one. */
export const isEnvelope = (json: Json | undefined): boolean => isJsonObject(json) && Object.hasOwn(json, 'payload');

/** The envelope in JSON text, or what is wrong with it in words. */
export function parseEnvelope(text: string): Parsed<DsseEnvelope, string> {
  const json = parseJson(text);
  if (!isJsonObject(json)) return bad('it is not a JSON object');
  const { payload: payloadText, payloadType, signatures: list } = json;
  if (typeof payloadText !== 'string') return bad("'payload' must be text in base64");
  const payload = decodeBytes(payloadText);
  if (payload === undefined) return bad("'payload' is not base64");
  if (typeof payloadType !== 'string') return bad("'payloadType' must be text");
  if (!Array.isArray(list)) return bad("'signatures' must be a list");
  const signatures: DsseSignature[] = [];
  for (const [i, signature] of list.entries()) {
    if (!isJsonObject(signature) || typeof signature.sig !== 'string') return bad(`signature ${i} has no 'sig'`);
    const sig = decodeBytes(signature.sig);
    if (sig === undefined) return bad(`signature ${i} is not base64`);
    signatures.push({ keyid: typeof signature.keyid === 'string' ? signature.keyid : '', sig });
  }
  return isNonEmpty(signatures) ? good({ payload, payloadType, signatures }) : bad('it has no signatures');
}

/**
 * Whether any signature is by any of `keys` (ECDSA with SHA-256, in DER) over payload and type, and the type is Keylime's.
 * Which key an envelope names does not matter, nor does a certificate in it: whom to trust is the caller's to say.
 */
export function verifyEnvelope(
  { payload, payloadType, signatures }: DsseEnvelope,
  keys: readonly KeyObject[],
): boolean {
  if (payloadType !== KEYLIME_PAYLOAD_TYPE) return false;
  const signed = preAuthEncoding(payloadType, payload);
  return signatures.some(({ sig }) =>
    keys.some((key) => key.asymmetricKeyType === 'ec' && verify('sha256', signed, key, sig)),
  );
}

/** JSON text of an envelope around `payload`, signed by an EC private key. */
export function signEnvelope(payload: Uint8Array, key: KeyObject, keyid: string): string {
  const sig = sign('sha256', preAuthEncoding(KEYLIME_PAYLOAD_TYPE, payload), key).toString('base64');
  return JSON.stringify({
    payload: Buffer.from(payload).toString('base64'),
    payloadType: KEYLIME_PAYLOAD_TYPE,
    signatures: [{ keyid, sig }],
  });
}

/** What existing tools call an EC key: SHA-256 of its SubjectPublicKeyInfo in PEM, lower-case hex. */
export const ecdsaKeyId = (key: KeyObject): string =>
  createHash('sha256')
    .update(asPublic(key).export({ format: 'pem', type: 'spki' }))
    .digest('hex');

/** What existing tools call a key with a certificate: base64 of the certificate's PEM. */
export const x509KeyId = (certificatePem: string): string => Buffer.from(certificatePem).toString('base64');

const asPublic = (key: KeyObject): KeyObject => (key.type === 'private' ? createPublicKey(key) : key);

/** The EC key in PEM of a public key or a certificate, or what is wrong with it. */
export function parsePolicyKey(pem: string): Parsed<KeyObject, string> {
  // node:crypto would take a private key too, and whoever sends one has made a mistake that should not go unnoticed.
  if (pem.includes('PRIVATE KEY-----')) return bad('it is a private key: keep it, and give the public key');
  try {
    const key = createPublicKey(pem);
    return key.asymmetricKeyType === 'ec'
      ? good(key)
      : bad(`it is of type ${key.asymmetricKeyType}: an EC key is wanted`);
  } catch {
    return bad('it is not a public key or a certificate in PEM');
  }
}

/** DSSE `PAE`: what is signed. Lengths are decimal, in bytes. */
function preAuthEncoding(type: string, payload: Uint8Array): Buffer {
  const typeBytes = Buffer.from(type);
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${typeBytes.length} `),
    typeBytes,
    Buffer.from(` ${payload.length} `),
    payload,
  ]);
}

/** [compat] What is hexadecimal is taken as such; otherwise base64, in either alphabet. */
function decodeBytes(text: string): Buffer | undefined {
  const hex = text === '' ? undefined : parseHex(text);
  return hex ?? parseBase64(text) ?? parseBase64(text.replaceAll('-', '+').replaceAll('_', '/'));
}
