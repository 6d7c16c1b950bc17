import { type Decoded, fixedBytes, list, type Reader, struct, u8, u16le, u32le } from '@keylime/core/codec';
import { DIGEST_SIZES, type HashAlgorithm } from '@keylime/core/digest';

/** TPM_ALG_IDs of the hash algorithms that the project can compute. */
export const BANK_IDS = {
  sha1: 0x0004,
  sha256: 0x000b,
  sha384: 0x000c,
  sha512: 0x000d,
  sm3_256: 0x0012,
} as const satisfies Readonly<Record<HashAlgorithm, number>>;

const banks = new Map(Object.entries(BANK_IDS).map(([name, id]) => [id as number, name as HashAlgorithm]));

/** The bank of a TPM_ALG_ID; `undefined` for one whose digests are only skipped. */
export const bankOf = (algorithmId: number): HashAlgorithm | undefined => banks.get(algorithmId);

/** Digest sizes in bytes of all hash algorithms of the TCG Algorithm Registry, by TPM_ALG_ID. */
export const REGISTERED_DIGEST_SIZES: ReadonlyMap<number, number> = new Map([
  ...Object.entries(BANK_IDS).map(([name, id]): [number, number] => [id, DIGEST_SIZES[name as HashAlgorithm]]),
  [0x0027, 32],
  [0x0028, 48],
  [0x0029, 64],
]);

export const SPEC_ID_SIGNATURE = Buffer.from('Spec ID Event03\0', 'latin1');

/** What TPM_ALG_IDs a log uses, and the size of their digests in bytes. */
export const LogAlgorithm = struct({ algorithmId: u16le, digestSize: u16le });
export type LogAlgorithm = Decoded<typeof LogAlgorithm>;

/** The most algorithms that a record can have digests of. */
export const MOST_ALGORITHMS = 16;

/** TCG_EfiSpecIDEvent (TCG PFP 1.06, 10.4.5.1) up to its vendorInfo. `uintnSize` 1 is 32, 2 is 64 bits. */
export const SpecIdHead = struct({
  signature: fixedBytes(16),
  platformClass: u32le,
  specVersionMinor: u8,
  specVersionMajor: u8,
  specErrata: u8,
  uintnSize: u8,
  algorithms: list(u32le, LogAlgorithm, MOST_ALGORITHMS),
});

export type SpecId = Omit<Decoded<typeof SpecIdHead>, 'signature'> & { readonly vendorInfo: Buffer };

/** Reads the data of the first event of a crypto-agile log. @throws DecodeError if algorithms or sizes cannot be right. */
export function readSpecId(reader: Reader): SpecId {
  const { signature: _, ...head } = SpecIdHead.read(reader);
  reader.path = 'algorithms';
  if (head.algorithms.length === 0) reader.fail('no algorithm');
  const seen = new Set<number>();
  for (const { algorithmId, digestSize } of head.algorithms) {
    const registered = REGISTERED_DIGEST_SIZES.get(algorithmId);
    if (seen.has(algorithmId)) reader.fail(`algorithm 0x${algorithmId.toString(16)} twice`);
    if (registered !== undefined && digestSize !== registered) {
      reader.fail(`digests of ${digestSize} bytes for algorithm 0x${algorithmId.toString(16)}`);
    }
    seen.add(algorithmId);
  }
  reader.path = 'vendorInfo';
  const size = u8.read(reader);
  const start = reader.take(size);
  return { ...head, vendorInfo: reader.bytes.subarray(start, start + size) };
}
