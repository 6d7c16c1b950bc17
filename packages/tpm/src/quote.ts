import { hash, type KeyObject, timingSafeEqual } from 'node:crypto';
import { parseBase64 } from '@keylime/core/base64';
import type { Brand } from '@keylime/core/brand';
import { type Codec, DecodeError, decode } from '@keylime/core/codec';
import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import {
  canonicalEncryptionAlgorithm,
  type EncryptionAlgorithm,
  HASH_IDS,
  type SigningAlgorithm,
} from './algorithms.ts';
import { QuoteAttest, type TpmsClockInfo } from './attest.ts';
import { onlySelection, PcrValues } from './pcr-blob.ts';
import { bitmapMask, maskPcrs, withDataPcr } from './pcr-selection.ts';
import { encryptionAlgorithm, publicKey, TpmKeyError, type TpmtPublic } from './public.ts';
import { TpmtSignature, verifySignature } from './signature.ts';

/** The three byte strings of a quote: TPMS_ATTEST, TPMT_SIGNATURE and the PCR values (pcr-blob.ts). */
export type QuoteParts = { readonly attest: Buffer; readonly signature: Buffer; readonly pcrBlob: Buffer };

type QuotePart = 'text' | keyof QuoteParts;

/** Why a quote was not accepted. `kind` is public. */
export type QuoteFailure =
  | { readonly kind: 'quote_malformed'; readonly part: QuotePart; readonly problem: string }
  | { readonly kind: 'quote_ak_unusable'; readonly problem: string }
  | { readonly kind: 'quote_signature_scheme'; readonly expected: string; readonly actual: string }
  | { readonly kind: 'quote_hash_mismatch'; readonly declared: HashAlgorithm; readonly actual: HashAlgorithm }
  | { readonly kind: 'quote_signature_invalid' }
  | { readonly kind: 'quote_nonce_mismatch' }
  | { readonly kind: 'quote_pcr_bank'; readonly expected: HashAlgorithm; readonly actual: readonly string[] }
  | { readonly kind: 'pcr_bank_inactive'; readonly bank: HashAlgorithm }
  | { readonly kind: 'quote_pcr_selection'; readonly expected: number; readonly actual: number }
  | { readonly kind: 'quote_pcr_blob'; readonly problem: string }
  | { readonly kind: 'quote_pcr_digest_mismatch' };

type QuoteContent = {
  readonly bank: HashAlgorithm;
  /** The PCRs quoted: bit i for PCR i. */
  readonly mask: number;
  readonly pcrs: ReadonlyMap<number, Buffer>;
  readonly clockInfo: TpmsClockInfo;
  readonly firmwareVersion: bigint;
  readonly qualifiedSigner: Buffer;
  readonly hashAlg: HashAlgorithm;
  readonly signAlg: SigningAlgorithm;
  readonly encAlg: EncryptionAlgorithm;
};

/** What a TPM said, after every check of `verifyQuote`. Buffers are views of the quote. */
export type VerifiedQuote = Brand<QuoteContent, 'VerifiedQuote'>;

export type QuoteResult =
  | { readonly ok: true; readonly quote: VerifiedQuote }
  | { readonly ok: false; readonly failure: QuoteFailure };

/** A failure on its way out of `verifyQuote`. */
class Refused extends Error {
  readonly failure: QuoteFailure;
  constructor(failure: QuoteFailure) {
    super(failure.kind);
    this.failure = failure;
  }
}

function refuse(failure: QuoteFailure): never {
  throw new Refused(failure);
}

/** Keylime's text of a quote: `r`, then the parts in standard base64 with `:` between them. */
export const encodeQuote = ({ attest, signature, pcrBlob }: QuoteParts): string =>
  `r${[attest, signature, pcrBlob].map((part) => part.toString('base64')).join(':')}`;

/** Takes the text of a quote apart, or says what is wrong with it. Nothing is verified. */
export function parseQuote(text: string): QuoteParts | Extract<QuoteFailure, { readonly kind: 'quote_malformed' }> {
  const malformed = (part: QuotePart, problem: string) => ({ kind: 'quote_malformed', part, problem }) as const;
  if (!text.startsWith('r')) return malformed('text', 'a quote starts with "r"');
  const parts = text.slice(1).split(':');
  const [first, second, third] = parts;
  if (first === undefined || second === undefined || third === undefined || parts.length !== 3) {
    return malformed('text', `3 parts wanted, ${parts.length} found`);
  }
  const attest = parseBase64(first) ?? malformed('attest', 'not base64');
  const signature = parseBase64(second) ?? malformed('signature', 'not base64');
  const pcrBlob = parseBase64(third) ?? malformed('pcrBlob', 'not base64');
  if ('kind' in attest) return attest;
  if ('kind' in signature) return signature;
  if ('kind' in pcrBlob) return pcrBlob;
  return { attest, signature, pcrBlob };
}

function decodePart<T>(part: QuotePart, codec: Codec<T>, bytes: Buffer): T {
  try {
    return decode(codec, bytes);
  } catch (error) {
    if (error instanceof DecodeError) return refuse({ kind: 'quote_malformed', part, problem: error.message });
    throw error;
  }
}

function keyOf(ak: TpmtPublic): KeyObject {
  try {
    return publicKey(ak);
  } catch (error) {
    if (error instanceof TpmKeyError) return refuse({ kind: 'quote_ak_unusable', problem: error.message });
    throw error;
  }
}

/** A restricted key signs with its own scheme only; its type fits that scheme, or there would be no such key. */
function checkScheme(ak: TpmtPublic, signature: TpmtSignature, declared: HashAlgorithm): void {
  const fits = ak.type === 'rsa' ? ['rsassa', 'rsapss'] : ['ecdsa'];
  const expected = ak.scheme.type === 'null' ? fits : fits.filter((type) => type === ak.scheme.type);
  if (!expected.includes(signature.type)) {
    refuse({ kind: 'quote_signature_scheme', expected: expected.join(' or '), actual: signature.type });
  }
  const own = 'hash' in ak.scheme ? ak.scheme.hash : declared;
  if (signature.hash !== declared || own !== declared) {
    const actual = signature.hash !== declared ? signature.hash : own;
    refuse({ kind: 'quote_hash_mismatch', declared, actual });
  }
}

/** The attested bitmap: one entry, the bank that was asked for, and the PCRs that were asked for. */
function attestedMask({ attested }: QuoteAttest, { hashAlg: bank, mask: wanted, dataPcr }: QuoteExpectation): number {
  const [only, ...rest] = attested.pcrSelect;
  if (only === undefined || rest.length > 0 || only.hash !== bank) {
    return refuse({ kind: 'quote_pcr_bank', expected: bank, actual: attested.pcrSelect.map((entry) => entry.hash) });
  }
  const mask = bitmapMask(only.pcrSelect);
  if (mask === 0) refuse({ kind: 'pcr_bank_inactive', bank });
  const expected = wanted === undefined ? mask & 0xffffff : withDataPcr(wanted);
  if (mask !== expected && !(dataPcr === 'optional' && mask === wanted)) {
    refuse({ kind: 'quote_pcr_selection', expected, actual: mask });
  }
  return mask;
}

/** The values of the blob, if it speaks of exactly what was attested. */
function blobValues(blob: PcrValues, bank: HashAlgorithm, mask: number): readonly Buffer[] {
  const selection = onlySelection(blob);
  if (selection === undefined || selection.hash !== HASH_IDS[bank] || selection.mask !== mask) {
    refuse({ kind: 'quote_pcr_blob', problem: 'selection differs from the attested one' });
  }
  const values = blob.digests.flat();
  const size = digestSize(bank);
  if (values.some((value) => value.length !== size)) {
    refuse({ kind: 'quote_pcr_blob', problem: `a value has not the ${size} bytes of ${bank}` });
  }
  return values;
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

/** What was asked of the attester, and who must have answered. */
export type QuoteExpectation = {
  readonly ak: TpmtPublic;
  /** `publicKey(ak)`, where the caller keeps it between quotes. */
  readonly akKey?: KeyObject;
  /** The hash algorithm that the evidence declares: of the signature and of the PCR bank. */
  readonly hashAlg: HashAlgorithm;
  /** What must be in `extraData`. */
  readonly nonce: Uint8Array;
  /** The PCRs asked for, without PCR 16, which is always quoted; absent: whatever was quoted (one-shot evidence). */
  readonly mask?: number;
  /** Whether PCR 16 may be left out, where it binds no key: it is quoted all the same by existing agents. */
  readonly dataPcr?: 'required' | 'optional';
};

function verifyParts(parts: QuoteParts, expectation: QuoteExpectation): VerifiedQuote {
  const { ak, hashAlg } = expectation;
  const signature = decodePart('signature', TpmtSignature, parts.signature);
  checkScheme(ak, signature, hashAlg);
  if (!verifySignature(expectation.akKey ?? keyOf(ak), signature, parts.attest)) {
    refuse({ kind: 'quote_signature_invalid' });
  }
  const attest = decodePart('attest', QuoteAttest, parts.attest);
  if (!equal(attest.extraData, expectation.nonce)) refuse({ kind: 'quote_nonce_mismatch' });
  const mask = attestedMask(attest, expectation);
  const values = blobValues(decodePart('pcrBlob', PcrValues, parts.pcrBlob), hashAlg, mask);
  const numbers = maskPcrs(mask);
  if (values.length !== numbers.length) {
    refuse({ kind: 'quote_pcr_blob', problem: `${numbers.length} values wanted, ${values.length} found` });
  }
  if (!equal(hash(hashAlg, Buffer.concat(values), 'buffer'), attest.attested.pcrDigest)) {
    refuse({ kind: 'quote_pcr_digest_mismatch' });
  }
  const pcrs = new Map<number, Buffer>();
  numbers.forEach((pcr, i) => {
    const value = values[i];
    if (value !== undefined) pcrs.set(pcr, value);
  });
  const content: QuoteContent = {
    bank: hashAlg,
    mask,
    pcrs,
    clockInfo: attest.clockInfo,
    firmwareVersion: attest.firmwareVersion,
    qualifiedSigner: attest.qualifiedSigner,
    hashAlg: signature.hash,
    signAlg: signature.type,
    encAlg: encryptionAlgorithm(ak),
  };
  return content as VerifiedQuote;
}

/**
 * Verifies the text of a quote: form, AK and scheme, signature, magic and type, nonce, then that the attested PCR
 * selection is the one asked for and that the PCR values beside the quote are exactly those that were signed.
 * Stops at the first failure, since nothing after it can be believed. Neither clock nor PCR values are appraised.
 */
export function verifyQuote(options: QuoteExpectation & { readonly text: string }): QuoteResult {
  const parts = parseQuote(options.text);
  if ('kind' in parts) return { ok: false, failure: parts };
  try {
    return { ok: true, quote: verifyParts(parts, options) };
  } catch (error) {
    if (error instanceof Refused) return { ok: false, failure: error.failure };
    throw error;
  }
}

/** The names in an agent's answer: `hash_alg`, `enc_alg`, `sign_alg`. */
export type DeclaredAlgorithms = { readonly hashAlg: string; readonly encAlg: string; readonly signAlg: string };

/** The declared names that are not what the AK and the signature are; `rsa` stands for `rsa2048`, `ecc` for `ecc256`. */
export const declaredAlgorithmMismatches = (
  quote: VerifiedQuote,
  { hashAlg, encAlg, signAlg }: DeclaredAlgorithms,
): readonly (keyof DeclaredAlgorithms)[] => {
  const mismatches: (keyof DeclaredAlgorithms)[] = [];
  if (hashAlg !== quote.hashAlg) mismatches.push('hashAlg');
  if (canonicalEncryptionAlgorithm(encAlg) !== quote.encAlg) mismatches.push('encAlg');
  if (signAlg !== quote.signAlg) mismatches.push('signAlg');
  return mismatches;
};

/** Whether an agent declares the algorithms that it used; otherwise lists of accepted ones mean nothing. */
export const declaredAlgorithmsMatch = (quote: VerifiedQuote, declared: DeclaredAlgorithms): boolean =>
  declaredAlgorithmMismatches(quote, declared).length === 0;
