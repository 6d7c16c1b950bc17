import type { Random } from './options.ts';

/** Values that lengths, counts and indexes tend to break on. */
const NUMBERS = [
  0, 1, 2, 3, 4, 7, 8, 16, 20, 23, 24, 31, 32, 255, 256, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
];

type Mutation = (input: Buffer, random: Random) => Buffer;

/** `change` on a copy. */
const inPlace =
  (change: (bytes: Buffer, random: Random) => void): Mutation =>
  (input, random) => {
    const bytes = Buffer.from(input);
    if (bytes.length >= 8) change(bytes, random);
    return bytes;
  };

/** Start and end of a part, most often a short one. */
function part(bytes: Buffer, random: Random): readonly [number, number] {
  const start = random(bytes.length + 1);
  const longest = random(4) === 0 ? bytes.length : 64;
  return [start, Math.min(bytes.length, start + random(longest + 1))];
}

const MUTATIONS: readonly Mutation[] = [
  inPlace((bytes, random) => {
    const at = random(bytes.length);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random(8)), at);
  }),
  inPlace((bytes, random) => void bytes.writeUInt8(random(256), random(bytes.length))),
  inPlace((bytes, random) => void bytes.writeUInt32LE(NUMBERS[random(NUMBERS.length)] ?? 0, random(bytes.length - 3))),
  inPlace(
    (bytes, random) =>
      void bytes.writeUInt16LE((NUMBERS[random(NUMBERS.length)] ?? 0) & 0xffff, random(bytes.length - 1)),
  ),
  inPlace((bytes, random) => {
    const at = random(bytes.length - 3);
    bytes.writeUInt32LE((bytes.readUInt32LE(at) + random(33) - 16) >>> 0, at);
  }),
  inPlace((bytes, random) => void bytes.fill(random(2) === 0 ? 0 : random(256), ...part(bytes, random))),
  // Cut short, left out, twice, and moved.
  (bytes, random) => bytes.subarray(0, random(bytes.length + 1)),
  (bytes, random) => {
    const [start, end] = part(bytes, random);
    return Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]);
  },
  (bytes, random) => {
    const [start, end] = part(bytes, random);
    return Buffer.concat([bytes.subarray(0, end), bytes.subarray(start)]);
  },
  (bytes, random) => {
    const [start, end] = part(bytes, random);
    const at = random(start + 1);
    return Buffer.concat([
      bytes.subarray(0, at),
      bytes.subarray(start, end),
      bytes.subarray(at, start),
      bytes.subarray(end),
    ]);
  },
];

/** `input` after one to five changes. */
export function mutate(input: Buffer, random: Random): Buffer {
  let bytes = input;
  for (let left = 1 + random(5); left > 0; left--) {
    bytes = (MUTATIONS[random(MUTATIONS.length)] ?? Buffer.from)(bytes, random);
  }
  return bytes;
}
