import { isJsonObject, type Json } from '@keylime/core/json';

/** What an agent answers to a request for an integrity quote (01 section 6.1 of the reference), nothing of it verified. */
export type PullEvidence = {
  /** `r<TPMS_ATTEST>:<TPMT_SIGNATURE>:<PCR blob>`, each base64. */
  readonly quote: string;
  readonly hashAlg: string;
  readonly encAlg: string;
  readonly signAlg: string;
  /** The transport key, SubjectPublicKeyInfo in PEM exactly as it was hashed into PCR 16. */
  readonly transportKeyPem?: string;
  /** ASCII measurement list from entry `imaEntry` on. */
  readonly imaList?: string;
  readonly imaEntry: number;
  /** Binary boot event log in base64, as it came. */
  readonly bootLog?: string;
  /** Seconds; only agents of the first generation send it. A hint: what counts is the TPM's reset count. */
  readonly bootTime: number;
};

export type EvidenceProblem = { readonly kind: 'evidence_malformed'; readonly field: string; readonly problem: string };

/** What the tools print as the name of an algorithm; anything longer or stranger is not worth keeping. */
const ALGORITHM_NAME = /^[\w-]{0,32}$/;

/** An RSA key of 4096 bits takes 800 characters. The key is kept, and written with every round. */
const LONGEST_TRANSPORT_KEY = 16_384;

const bad = (field: string, problem: string): EvidenceProblem => ({ kind: 'evidence_malformed', field, problem });

/** The evidence in `results` of an agent's answer, or what is wrong with it. `null` means absent, as existing agents have it. */
export function decodePullEvidence(results: Json | undefined): PullEvidence | EvidenceProblem {
  if (!isJsonObject(results)) return bad('results', 'an object is wanted');
  const texts: Record<string, string | undefined> = {};
  for (const field of [
    'quote',
    'hash_alg',
    'enc_alg',
    'sign_alg',
    'pubkey',
    'ima_measurement_list',
    'mb_measurement_list',
  ]) {
    const value = results[field] ?? undefined;
    if (value !== undefined && typeof value !== 'string') return bad(field, 'text is wanted');
    if (field.endsWith('_alg') && value !== undefined && !ALGORITHM_NAME.test(value)) {
      return bad(field, 'the name of an algorithm is wanted');
    }
    texts[field] = value;
  }
  const numbers: Record<string, number> = {};
  for (const field of ['ima_measurement_list_entry', 'boottime']) {
    const value = results[field] ?? 0;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) return bad(field, 'a count is wanted');
    numbers[field] = value;
  }
  if ((texts.pubkey?.length ?? 0) > LONGEST_TRANSPORT_KEY) return bad('pubkey', 'it is too long for a key');
  const { quote, pubkey, ima_measurement_list: imaList, mb_measurement_list: bootLog } = texts;
  if (quote === undefined || quote === '') return bad('quote', 'it is missing');
  return {
    quote,
    hashAlg: texts.hash_alg ?? '',
    encAlg: texts.enc_alg ?? '',
    signAlg: texts.sign_alg ?? '',
    ...(pubkey === undefined || pubkey === '' ? {} : { transportKeyPem: pubkey }),
    ...(imaList === undefined ? {} : { imaList }),
    ...(bootLog === undefined || bootLog === '' ? {} : { bootLog }),
    imaEntry: numbers.ima_measurement_list_entry ?? 0,
    bootTime: numbers.boottime ?? 0,
  };
}

/** Whether `decodePullEvidence` found evidence. */
export const isEvidence = (decoded: PullEvidence | EvidenceProblem): decoded is PullEvidence => !('kind' in decoded);
