import type { StringTable } from './string-table.ts';

/**
 * Accepted digests by the name of a file, keyring or buffer: lower-case hex, of which only the hex counts; the name of the
 * digest's algorithm is not compared.
 */
export type DigestMap = StringTable;
