import { Batch, isFast } from './batch.ts';
import type { KnownLines } from './known-lines.ts';
import { BATCH, MEMORY } from './list-memory.ts';
import { ListReader } from './list-reader.ts';
import { type ImaLine, type ImaListPart, type ImaReplay, replayImaList } from './replay.ts';
import { sharedScratch } from './scratch.ts';

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
  /**
   * Whether a file is accepted whatever its digest, by its path, which is ASCII and stands in `bytes` from `from` to `to`. Asked
   * before `file` where lines are known, for then most others are accepted so; not about the first entry of a list.
   */
  readonly excludes?: (bytes: Uint8Array, from: number, to: number) => boolean;
  /** Any other line, and any line where the fast way is not open. */
  readonly line: (line: ImaLine) => void;
};

/**
 * Does what `replayImaList` does, several times as fast for SHA-256 banks: stretches and lines that are known are compared,
 * other ordinary lines are read straight into SHA messages and hashed four at a time; what is left, a few lines
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
  const reader = new ListReader(part.list, scratch);
  const running = Buffer.from(part.runningPcr);
  let entryCount = 0;
  if (running.equals(part.quotedPcr)) {
    return { entryCount: reader.countLines(), certifiedCount: 0, runningPcr: running };
  }
  for (; !reader.isAtEnd; yield) {
    reader.load();
    const stretch = known?.stretches.find(running, reader.bytes, part.quotedPcr);
    if (stretch !== undefined) {
      stretch.after.copy(running);
      entryCount += stretch.entryCount;
      reader.advance(MEMORY.window + stretch.bytes.length);
      continue;
    }
    const before = Buffer.from(running);
    const batch = new Batch(reader, scratch, part, part.firstIndex + entryCount, known);
    const matched = batch.extend(running);
    batch.visit(visitor, matched);
    if (matched !== undefined) {
      const certifiedCount = entryCount + matched;
      reader.advance(batch.addressAfter(matched));
      return { entryCount: certifiedCount + reader.countLines(), certifiedCount, runningPcr: running };
    }
    if (part.firstIndex === 0 && batch.isKnown) known?.stretches.add(before, batch.asStretch(running));
    entryCount += batch.entryCount;
    reader.advance(batch.end);
  }
  return { entryCount, certifiedCount: undefined, runningPcr: running };
}
