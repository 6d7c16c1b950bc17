import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import type { Parsed } from '@keylime/core/parsed';
import { type ImaEntry, type ImaProblem, parseImaLine } from './entry.ts';
import { listBytes } from './list-text.ts';

/** The PCR that IMA extends (Linux CONFIG_IMA_MEASURE_PCR_IDX). */
export const IMA_PCR = 10;

/**
 * How the kernel extends a bank: with the template hash computed in the bank's algorithm, or, before Linux 5.8 and for
 * banks whose algorithm the kernel lacks, with the SHA-1 template hash padded with zeros.
 */
export const IMA_EXTEND_MODES = ['bank', 'padded_sha1'] as const;
export type ImaExtendMode = (typeof IMA_EXTEND_MODES)[number];

/** A part of a measurement list and the PCR value that it should lead to. */
export type ImaListPart = {
  /**
   * `ascii_runtime_measurements` from entry `firstIndex` on, as bytes or as text (list-text.ts). Blank lines are skipped and not
   * counted.
   */
  readonly list: string | Uint8Array;
  readonly firstIndex: number;
  readonly bank: HashAlgorithm;
  /** PCR 10 before entry `firstIndex`; `bank` bytes. Zeros for a full list. */
  readonly runningPcr: Uint8Array;
  /** PCR 10 of the verified quote; `bank` bytes. */
  readonly quotedPcr: Uint8Array;
  /** Algorithm of the template hash column. */
  readonly logHashAlgorithm: HashAlgorithm;
  readonly extendMode?: ImaExtendMode;
};

/** What was found on one line. `computedHash` is the hash of the template input, in the algorithm of the column. */
export type ImaLine = {
  readonly index: number;
  readonly parsed: Parsed<ImaEntry, ImaProblem>;
  readonly line: Uint8Array;
  /** Lower-case hex of the hash of the template input; absent for lines that do not parse. */
  readonly computedHash?: string;
  /** The kernel's record of a violation: a column of zeros of the right length. */
  readonly violation: boolean;
};

/** Where a replay met the quote. */
export type ImaReplay = {
  /** Entries of this part, malformed ones included. */
  readonly entryCount: number;
  /** How many of them the quote covers: after this many the running value first was the quoted one. */
  readonly certifiedCount: number | undefined;
  /** PCR 10 after the certified entries, or after all if the quoted value was never met. */
  readonly runningPcr: Buffer;
};

/**
 * Replays a part of a measurement list, comparing the running value with the quoted one after each entry; the first match
 * counts. Yields the entries in order up to the match; later ones are only counted, for nothing certifies them. A line
 * that does not parse extends nothing, so that the quoted value cannot be met after it (unless it was added). Plain and
 * slow: `scanImaList` does the same faster and is tested against it. Source: Linux ima_queue.c `ima_add_template_entry`,
 * `ima_pcr_extend`.
 */
export function* replayImaList(part: ImaListPart): Generator<ImaLine, ImaReplay> {
  const extendMode = part.extendMode ?? 'bank';
  let running: Buffer = Buffer.from(part.runningPcr);
  let entryCount = 0;
  let certifiedCount = running.equals(part.quotedPcr) ? 0 : undefined;
  for (const line of nonBlankLines(part.list)) {
    const index = part.firstIndex + entryCount++;
    if (certifiedCount !== undefined) continue;
    const parsed = parseImaLine(line);
    if (!parsed.ok) {
      yield { index, line, parsed, violation: false };
      continue;
    }
    const entry = parsed.value;
    const violation = isViolation(entry, part.logHashAlgorithm);
    const computedHash = digest(part.logHashAlgorithm, entry.templateInput).toString('hex');
    running = extend(part.bank, running, extendValue(entry, violation, part.bank, extendMode));
    yield { index, line, parsed, computedHash, violation };
    if (running.equals(part.quotedPcr)) certifiedCount = entryCount;
  }
  return { entryCount, certifiedCount, runningPcr: running };
}

/** Zeros of another length than the column's algorithm gives are a wrong hash, not a violation. */
export const isViolation = (entry: ImaEntry, logHashAlgorithm: HashAlgorithm): boolean =>
  entry.violation && entry.templateHash.length === 2 * digestSize(logHashAlgorithm);

/** What the kernel extended for an entry: the template hash, or ones for a violation. */
export function extendValue(
  entry: ImaEntry,
  violation: boolean,
  bank: HashAlgorithm,
  extendMode: ImaExtendMode,
): Uint8Array {
  const algorithm = extendMode === 'bank' ? bank : 'sha1';
  const value = violation ? Buffer.alloc(digestSize(algorithm), 0xff) : digest(algorithm, entry.templateInput);
  return extendMode === 'bank' ? value : Buffer.concat([value], digestSize(bank));
}

/** The lines of a list, split at newlines only, without the blank ones. The last needs no newline. */
export function* nonBlankLines(list: string | Uint8Array): Generator<Uint8Array> {
  const bytes = listBytes(list);
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    if (end > start) yield bytes.subarray(start, end);
    start = end + 1;
  }
}
