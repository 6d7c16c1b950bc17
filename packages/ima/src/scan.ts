import type { BytesView } from '@keylime/core/bytes-view';
import { Batch, isFast } from './batch.ts';
import { ExtendSequence } from './extend-sequence.ts';
import type { KnownLines } from './known-lines.ts';
import { BATCH, MEMORY } from './list-memory.ts';
import { ListReader } from './list-reader.ts';
import { type ImaLine, type ImaListPart, type ImaReplay, replayImaList } from './replay.ts';
import { sharedScratch } from './scratch.ts';
import type { ExtendSteps } from './side-by-side.ts';

/** What sees the entries of a list: lines in their order, and before the lines of a batch its files. */
export type ImaVisitor = {
  /**
   * A file that only reference values can refuse: an `ima-ng` or `ima-sig` entry of PCR 10, no violation, its template
   * hash right, its signature absent or well-formed. `hex` is its digest in lower case. Tells whether these three say
   * enough to accept it; if not, and if the quote covers it, `line` sees the entry with all that it has. Asked about
   * some entries behind the quote too, so that nothing may follow from the question.
   */
  readonly file: (index: number, path: string, hex: string) => boolean;
  /** Lines that need not be shown, for they are accepted. The first entry of a list is shown in any case. */
  readonly known?: KnownLines | undefined;
  /**
   * Whether a file is accepted by its path, whose bytes stand in `view` from `path` to `pathEnd`, and by its digest in hex, which
   * stands there from `digest` to `digestEnd`. Asked before `file`; not about the first entry of a list.
   */
  readonly listed?: (view: BytesView, path: number, pathEnd: number, digest: number, digestEnd: number) => boolean;
  /**
   * Whether a file is accepted whatever its digest, by its path, which is ASCII and stands in `bytes` from `from` to `to`. Asked
   * before `listed` where lines are known, for then most others are accepted so; not about the first entry of a list.
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
export function* scanImaList(part: ImaListPart, visitor: ImaVisitor): ExtendSteps<ImaReplay> {
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
  let running: Buffer = Buffer.from(part.runningPcr);
  let entryCount = 0;
  if (running.equals(part.quotedPcr)) {
    return { entryCount: reader.countLines(), certifiedCount: 0, runningPcr: running };
  }
  for (const extending = new ExtendSequence(running, part.quotedPcr); !reader.isAtEnd; ) {
    reader.load();
    const stretch = known?.stretches.find(running, reader.bytes, part.quotedPcr);
    if (stretch !== undefined) {
      running = stretch.after;
      extending.pcr = running;
      entryCount += stretch.entryCount;
      reader.advance(MEMORY.window + stretch.bytes.length);
      yield;
      continue;
    }
    const batch = new Batch(reader, scratch, part, part.firstIndex + entryCount, known);
    const lines = batch.linesFor(visitor);
    const mayBeStretch = part.firstIndex === 0 && batch.isKnown;
    extending.give(batch.digests, mayBeStretch);
    const { position } = reader;
    reader.advance(batch.end);
    // From here on the scratch is of whoever has its turn.
    yield extending;
    const extended = extending.run();
    const matched = extended && batch.entriesOf(extended);
    const end = part.firstIndex + entryCount + (matched ?? batch.entryCount);
    for (const line of lines) if (line.index < end) visitor.line(line);
    const before = running;
    running = extending.pcr;
    if (matched !== undefined) {
      if (matched < batch.entryCount) {
        reader.returnTo(position);
        reader.passLines(matched);
      }
      const certifiedCount = entryCount + matched;
      return { entryCount: certifiedCount + reader.countLines(), certifiedCount, runningPcr: running };
    }
    if (mayBeStretch && known?.stretches.comesAgain(before, running)) {
      reader.returnTo(position);
      const bytes = reader.bytes.subarray(0, batch.end - MEMORY.window);
      known.stretches.keep(before, { bytes, entryCount: batch.entryCount, after: running, values: extending.values() });
      reader.advance(batch.end);
    }
    entryCount += batch.entryCount;
  }
  return { entryCount, certifiedCount: undefined, runningPcr: Buffer.from(running) };
}
