import { endianness } from 'node:os';
import { type DigestFour, sha1OfFour, sha256OfFour } from './digest-four.ts';
import { type FirstWrongColumn, firstWrongColumn } from './hex-column.ts';
import { type LearnLines, learnLines } from './learn-lines.ts';
import { BATCH, MEMORY } from './list-memory.ts';
import { type MatchLines, matchLines } from './match-lines.ts';
import { type ReadFiles, readFiles } from './read-files.ts';
import { SHA_CONSTANTS } from './sha-rounds.ts';
import { compileModule, encodeModule, instantiateModule } from './wasm.ts';

/** The functions of the module, which work in `memory`, laid out as `MEMORY` says. */
export type ListModule = {
  readonly memory: ArrayBuffer;
  readonly sha1: DigestFour;
  readonly sha256: DigestFour;
  readonly readFiles: ReadFiles;
  readonly firstWrongColumn: FirstWrongColumn;
  readonly matchLines: MatchLines;
  readonly learnLines: LearnLines;
};

const PAGE_BYTES = 64 * 1024;

let compiled: object | null | undefined;

function compile(): object | null {
  if (endianness() !== 'LE') return null;
  const functions = [sha1OfFour(), sha256OfFour(), readFiles(), firstWrongColumn(), matchLines(), learnLines()];
  const bytes = encodeModule(functions, MEMORY.pages, new Uint8Array(Int32Array.from(SHA_CONSTANTS).buffer));
  return compileModule(bytes) ?? null;
}

/**
 * The module with a memory of its own, in which `knownBytes` from `MEMORY.known` on are the caller's; `undefined` on a
 * processor without 128-bit SIMD, or whose words are not little-endian.
 */
export function makeListModule(knownBytes = 0): ListModule | undefined {
  compiled ??= compile();
  if (compiled === null) return undefined;
  const pages = Math.max(MEMORY.pages, Math.ceil((MEMORY.known + knownBytes) / PAGE_BYTES));
  const module = instantiateModule<Omit<ListModule, 'memory'>>(compiled, pages);
  Buffer.from(module.memory).write('0123456789abcdef', MEMORY.hexDigits, 'latin1');
  const columnPlaces = new Uint32Array(module.memory, MEMORY.columnPlaces, BATCH);
  for (let message = 0; message < BATCH; message++) columnPlaces[message] = MEMORY.columnDigests + 32 * message;
  return module;
}
