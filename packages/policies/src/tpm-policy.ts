import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';

/** Accepted values of PCRs, and which PCRs to quote. */
export type TpmPolicy = {
  /** Lower-case hex, of one or several banks, by PCR number. */
  readonly pcrs: ReadonlyMap<number, ReadonlySet<string>>;
  /** Bit n stands for PCR n; contains at least the PCRs of `pcrs`. */
  readonly mask: number;
};

const LAST_PCR = 23;
/** PCR 10 is IMA's and judged by its list; PCR 16 binds the transport key. */
const RESERVED: ReadonlyMap<number, string> = new Map([
  [10, 'Invalid allowlist PCR number 10, this PCR is used for IMA.'],
  [16, 'Invalid allowlist PCR number 16, keylime uses this PCR to bind data.'],
]);

/**
 * Decodes a `tpm_policy`: a JSON object from PCR numbers (digits, 0 to 23, neither 10 nor 16) to one or several hex
 * digests, and optionally `mask`, the PCRs to quote, as hexadecimal text such as `0x408000` or as a number. Everything
 * that is wrong is reported in one sentence each.
 */
export function decodeTpmPolicy(text: string): Parsed<TpmPolicy, NonEmpty<string>> {
  const json = parseJson(text);
  if (!isJsonObject(json)) return bad(['must be a JSON object such as {"22": "<hex digest>"}']);
  const problems: string[] = [];
  const pcrs = new Map<number, ReadonlySet<string>>();
  let mask = 0;
  for (const [key, value] of Object.entries(json)) {
    if (key === 'mask') {
      const given = decodeMask(value);
      if (given === undefined) problems.push(`mask must be hexadecimal with bits 0 to ${LAST_PCR}, such as "0x408000"`);
      else mask |= given;
      continue;
    }
    const pcr = /^\d{1,2}$/.test(key) ? Number(key) : Number.NaN;
    if (!(pcr <= LAST_PCR)) {
      problems.push(
        `Invalid tpm policy pcr number: ${JSON.stringify(key.slice(0, 40))} is not one of 0 to ${LAST_PCR}`,
      );
      continue;
    }
    const reserved = RESERVED.get(pcr);
    if (reserved !== undefined) problems.push(reserved);
    if (pcrs.has(pcr)) problems.push(`PCR ${pcr} is listed twice`);
    const digests = decodeDigests(value);
    if (digests === undefined)
      problems.push(`PCR ${pcr} must be a hex digest of 40, 64, 96 or 128 digits, or a list of them`);
    else pcrs.set(pcr, digests);
    mask |= 1 << pcr;
  }
  return isNonEmpty(problems) ? bad(problems) : good({ pcrs, mask });
}

function decodeMask(value: Json): number | undefined {
  const text = typeof value === 'number' ? value.toString(16) : value;
  if (typeof text !== 'string' || !/^(?:0x)?[0-9a-f]{1,8}$/i.test(text)) return undefined;
  const mask = Number.parseInt(text, 16);
  return mask < 2 ** (LAST_PCR + 1) ? mask : undefined;
}

function decodeDigests(value: Json): ReadonlySet<string> | undefined {
  const list: readonly Json[] = Array.isArray(value) ? value : [value];
  const digests = list.map((digest) => (typeof digest === 'string' ? digest.toLowerCase() : ''));
  return digests.length > 0 &&
    digests.every((digest) => /^(?:[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$/.test(digest))
    ? new Set(digests)
    : undefined;
}

/** The JSON text that `decodeTpmPolicy` reads back; `mask` is written as verifiers of every version expect it. */
export const serialiseTpmPolicy = ({ pcrs, mask }: TpmPolicy): string =>
  JSON.stringify({
    ...Object.fromEntries([...pcrs].map(([pcr, digests]) => [String(pcr), [...digests]])),
    mask: `0x${mask.toString(16)}`,
  });
