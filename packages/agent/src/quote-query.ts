import { bad, good, type Parsed } from '@keylime/core/parsed';

/** What a caller wants quoted. PCR 16 is quoted in any case. */
export type QuoteRequest = {
  /** Text bytes of the nonce, 1 to 64: what becomes `extraData`. */
  readonly nonce: Buffer;
  /** Bit i is PCR i; within 24 bits. */
  readonly mask: number;
  readonly withPubkey: boolean;
};

export type IntegrityRequest = QuoteRequest & {
  /** Index of the first measurement list entry that the caller has not seen. */
  readonly firstEntry: number;
};

/** Query parameters as the server parsed them: one that comes twice is an array. */
export type Query = { readonly [name: string]: unknown };

export const MAX_NONCE_BYTES = 64;

/** Query of GET /quotes/identity. The problem is the `status` text of the 400 answer (spec 01 section 6.1). */
export function parseIdentityQuery(query: Query): Parsed<QuoteRequest, string> {
  const nonce = parameter(query, 'nonce');
  if (!nonce.ok) return nonce;
  if (!isAlphanumeric(nonce.value)) return bad(`Parameters should be strictly alphanumeric: ${nonce.value}`);
  const bytes = nonceBytes(nonce.value);
  return bytes.ok ? good({ nonce: bytes.value, mask: 0, withPubkey: true }) : bytes;
}

/** Query of GET /quotes/integrity; checked in the order that the existing agent keeps (spec 01 section 6.1). */
export function parseIntegrityQuery(query: Query): Parsed<IntegrityRequest, string> {
  const nonce = parameter(query, 'nonce');
  if (!nonce.ok) return nonce;
  const mask = parameter(query, 'mask');
  if (!mask.ok) return mask;
  const partial = parameter(query, 'partial');
  if (!partial.ok) return partial;

  if (!isAlphanumeric(nonce.value)) return bad(`nonce should be strictly alphanumeric: ${nonce.value}`);
  if (!isAlphanumeric(mask.value)) return bad(`mask should be strictly alphanumeric: ${mask.value}`);
  const bits = /^(?:0x)?0*([0-9a-fA-F]{1,8})$/.exec(mask.value)?.[1];
  if (bits === undefined) return bad(`mask should be a hex encoded 32-bit integer: ${mask.value}`);
  const pcrs = Number.parseInt(bits, 16);
  if (pcrs > 0xff_ffff) return bad(`mask should only name PCRs 0 to 23: ${mask.value}`);
  const bytes = nonceBytes(nonce.value);
  if (!bytes.ok) return bytes;
  if (partial.value !== '0' && partial.value !== '1') return bad("uri must contain key 'partial' and value '0' or '1'");
  const firstEntry = parseEntry(query.ima_ml_entry);
  return good({ nonce: bytes.value, mask: pcrs, withPubkey: partial.value === '0', firstEntry });
}

/** Whether `text` is letters and digits of any script, at least one. */
export const isAlphanumeric = (text: string): boolean => /^[\p{Alphabetic}\p{N}]+$/u.test(text);

/** The text of a required parameter. */
export function parameter(query: Query, name: string): Parsed<string, string> {
  const value = query[name];
  if (typeof value === 'string') return good(value);
  return bad(`Query deserialize error: ${value === undefined ? 'missing' : 'duplicate'} field \`${name}\``);
}

function nonceBytes(nonce: string): Parsed<Buffer, string> {
  const bytes = Buffer.from(nonce, 'utf8');
  return bytes.length <= MAX_NONCE_BYTES
    ? good(bytes)
    : bad(`Nonce is too long (max size ${MAX_NONCE_BYTES}): ${nonce}`);
}

/** [compat] What is no decimal number counts as 0. */
function parseEntry(text: unknown): number {
  return typeof text === 'string' && /^\+?\d{1,15}$/.test(text) ? Number(text) : 0;
}
