import { Batch, isFast, sharedScratch } from './batch.ts';
import type { KnownLines } from './known-lines.ts';
import { type ImaLine, type ImaListPart, type ImaReplay, replayImaList } from './replay.ts';
import { BATCH } from './sha-module.ts';

/** What sees the entries of a list, in their order. */
export type ImaVisitor = {
  /**
   * A file that only reference values can refuse: an `ima-ng` or `ima-sig` entry of PCR 10, no violation, its template
   * hash right, its signature absent or well-formed. `hex` is its digest in lower case. Tells whether these three say
   * enough to accept it; if not, `line` sees the entry with all that it has.
   */
  readonly file: (index: number, path: string, hex: string) => boolean;
  /** Lines that need not be shown, for they are accepted. The first entry of a list is shown in any case. */
  readonly known?: KnownLines | undefined;
  /** Any other line, and any line where the fast way is not open. */
  readonly line: (line: ImaLine) => void;
};

/**
 * Does what `replayImaList` does, several times as fast for SHA-256 banks: stretches and lines that are known are compared,
 * other ordinary lines are read byte by byte straight into SHA messages and hashed four at a time; what is left, a few lines
 * in a list, takes the plain way. Yields after each batch, so that a long list need not stop everything else.
 */
export function* scanImaList(part: ImaListPart, visitor: ImaVisitor): Generator<void, ImaReplay> {
  const { known } = visitor;
  const scratch = isFast(part) ? (known?.scratch ?? sharedScratch()) : undefined;
  if (scratch === undefined) {
    const steps = replayImaList(part);
    let step = steps.next();
    for (let count = 1; !step.done; step = steps.next(), count++) {
      visitor.line(step.value);
      if (count % BATCH === 0) yield;
    }
    return step.value;
  }
  const { list } = part;
  const running = Buffer.from(part.runningPcr);
  let entryCount = 0;
  if (running.equals(part.quotedPcr))
    return { entryCount: countLines(list, 0), certifiedCount: 0, runningPcr: running };
  for (let at = 0; at < list.length; ) {
    const stretch = known?.stretches.find(running, list, at, part.quotedPcr);
    if (stretch !== undefined) {
      stretch.after.copy(running);
      entryCount += stretch.entryCount;
      at += stretch.bytes.length;
      yield;
      continue;
    }
    const before = Buffer.from(running);
    const batch = new Batch(scratch, part, at, part.firstIndex + entryCount, known);
    const matched = batch.extend(running);
    batch.visit(visitor, matched);
    if (matched !== undefined) {
      const certifiedCount = entryCount + matched;
      return {
        entryCount: certifiedCount + countLines(list, batch.offsetAfter(matched)),
        certifiedCount,
        runningPcr: running,
      };
    }
    if (part.firstIndex === 0 && batch.isKnown) {
      const { entryCount: count, end, runningWords: values } = batch;
      known?.stretches.add(before, { bytes: list.subarray(at, end), entryCount: count, after: running, values });
    }
    entryCount += batch.entryCount;
    at = batch.end;
    yield;
  }
  return { entryCount, certifiedCount: undefined, runningPcr: running };
}

/** Lines that are not blank, from `offset` on. */
function countLines(list: Uint8Array, offset: number): number {
  let count = 0;
  for (let start = offset; start < list.length; ) {
    const newline = list.indexOf(0x0a, start);
    const end = newline < 0 ? list.length : newline;
    if (end > start) count++;
    start = end + 1;
  }
  return count;
}
