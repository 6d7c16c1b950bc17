import { BATCH } from './list-memory.ts';
import { SHA256_K, sha256Schedule } from './sha-rounds.ts';
import { at } from './wasm.ts';

/** Sequences of extends that are done at once. */
export const LANES = 4;

/** Where things are in the memory of the module that extends, in bytes. Numbers are as the machine stores them. */
export const EXTEND = {
  /** What SHA-256 adds in its rounds, and the same with the schedule of the second block of an extend added. */
  constants: 0,
  secondBlockSums: 0x100,
  /** Sums of constants and schedule of the first block of the extend that is under way. */
  schedule: 0x200,
  /** Of the one sequence: the PCR, and the quoted one. */
  pcr: 0x300,
  quotedPcr: 0x320,
  /** Of four: word by word, each of all lanes; of the quoted ones the first words. */
  pcrs: 0x380,
  quotedWords: 0x400,
  /** After each extend: the first words of the PCRs of all lanes. */
  values: 0x1000,
  valueBytes: 4 * LANES,
  /** 32 bytes per extend, lane by lane. */
  digests: 0x4000,
  laneBytes: 32 * BATCH,
  pages: 2,
} as const;

/** What follows the 64 bytes that are hashed: a one bit, zeros, and the length of 512 bits. */
const PADDING = Array.from({ length: 16 }, (_, i) => (i === 0 ? 0x80000000 | 0 : i === 15 ? 512 : 0));

export const SECOND_BLOCK_SUMS = sha256Schedule(PADDING).map((word, i) => (word + at(SHA256_K, i)) | 0);
