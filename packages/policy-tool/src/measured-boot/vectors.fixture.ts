import { fileURLToPath } from 'node:url';

/** A file of the test vectors of packages/testing. */
export const vectorFile = (vector: string, file: string): string =>
  fileURLToPath(new URL(`../../../testing/vectors/${vector}/${file}`, import.meta.url));
