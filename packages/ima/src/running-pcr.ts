import { listBytes } from './list-text.ts';
import { type ImaListPart, nonBlankLines } from './replay.ts';
import { scanImaList } from './scan.ts';
import type { ExtendSteps } from './side-by-side.ts';

/** PCR 10 after the first `count` entries of a part of a list, fewer than lead to the quoted value. Yields now and then. */
export function* runningPcrAfter(part: ImaListPart, count: number): ExtendSteps<Buffer> {
  const list = listBytes(part.list);
  let end = 0;
  let left = count;
  for (const line of nonBlankLines(list)) {
    if (left-- === 0) break;
    end = line.byteOffset - list.byteOffset + line.length + 1;
  }
  const nothing = { file: () => true, line: () => {} };
  const { runningPcr } = yield* scanImaList({ ...part, list: list.subarray(0, end) }, nothing);
  return runningPcr;
}
