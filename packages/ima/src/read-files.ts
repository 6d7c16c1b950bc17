import { COLUMN_START } from './hex-column.ts';
import { LONGEST_MESSAGE, MEMORY } from './list-memory.ts';
import {
  bytes,
  type Code,
  get,
  halves,
  i32,
  Locals,
  repeatWhile,
  returned,
  set,
  v128,
  type WasmFunction,
  when,
} from './wasm.ts';

/**
 * Reads lines of files from address `from` on into padded SHA messages: `ima-ng` and `ima-sig` entries of PCR 10 whose
 * digest and signature are well-formed. The column, of `columnChars` characters, is passed over. Entry number `entry` becomes
 * message number `message`, which goes to `out` and whose SHA-256 is to go to `place`, and so on up to entry `stop`. Returns
 * the number of the first entry that is anything out of the ordinary, or `stop`, and stores where its line begins.
 * Behind the list there have to be zeros.
 */
export type ReadFiles = (
  from: number,
  entry: number,
  stop: number,
  message: number,
  place: number,
  out: number,
  columnChars: number,
) => number;

/** Most bytes of a name or a signature; longer ones are read elsewhere. */
const LONGEST_FIELD = 4096;

const ZERO = i32.constant(0);
const SPACE = i32.constant(0x20);
const NEWLINE = i32.constant(0x0a);

/** Four characters as a word in memory. */
const chars = (text: string): Code => i32.constant(Buffer.from(text, 'latin1').readUInt32LE());

export function readFiles(): WasmFunction {
  const parameters = ['i32', 'i32', 'i32', 'i32', 'i32', 'i32', 'i32'] as const;
  const [from, entry, stop, message, place, out, columnChars] = [0, 1, 2, 3, 4, 5, 6];
  const locals = new Locals(parameters.length);
  const [at, to, start, limit, count] = locals.many('i32', 5) as Five;
  const [terminator, size, lead, wide, named] = locals.many('i32', 5) as Five;
  const [chunk, isDigit, nibbles] = locals.many('v128', 3) as unknown as [number, number, number];

  const plus = (local: number, value: Code) => set(local, i32.add(get(local), value));
  const failed: Code = [
    ...i32.store(ZERO, MEMORY.stoppedAt, get(from)),
    ...i32.store(ZERO, MEMORY.messagesTo, get(out)),
    ...returned(get(entry)),
  ];
  const require = (condition: Code): Code => when(i32.isZero(condition), failed);
  const splat = (value: number) => bytes.splat(i32.constant(value));

  // Hexadecimal digits from `at` on become bytes from `to` on, as far as there are any before `limit`; both move on.
  const readHex: Code = [
    ...repeatWhile(
      [
        ...set(chunk, v128.load(get(at), 0)),
        ...set(nibbles, bytes.subtract(get(chunk), splat(0x30))),
        ...set(isDigit, bytes.lessThan(get(nibbles), splat(10))),
        ...set(chunk, bytes.subtract(get(chunk), splat(0x61))),
        ...set(nibbles, v128.select(get(nibbles), bytes.add(get(chunk), splat(10)), get(isDigit))),
        ...set(
          count,
          i32.xor(bytes.firstBits(v128.or(get(isDigit), bytes.lessThan(get(chunk), splat(6)))), i32.constant(0xffff)),
        ),
        ...set(nibbles, v128.or(halves.shiftLeft(get(nibbles), 4), halves.shiftRight(get(nibbles), 8))),
        ...v128.store(get(to), 0, v128.shuffle(get(nibbles), get(nibbles), EVEN_BYTES)),
        ...set(count, i32.trailingZeros(i32.or(get(count), i32.constant(0x10000)))),
        ...plus(at, get(count)),
        ...plus(to, i32.shiftRight(get(count), 1)),
      ],
      i32.and(i32.equal(get(count), i32.constant(16)), i32.lessThan(get(at), get(limit))),
    ),
    ...require(i32.isZero(i32.and(get(count), i32.constant(1)))),
  ];

  const isControl = (chars: Code): Code => bytes.lessThan(chars, splat(0x21));
  const hasControl = (local: number): Code =>
    v128.or(isControl(v128.load(get(local), 0)), isControl(v128.load(get(local), 16)));
  const template: Code = [
    ...require(i32.equal(i32.and(i32.load(get(from), 0), i32.constant(0xffffff)), i32.constant(0x203031))),
    ...set(at, i32.add(get(from), i32.constant(COLUMN_START))),
    ...set(to, i32.add(get(at), i32.subtract(get(columnChars), i32.constant(32)))),
    // Whatever the column says, it has to be one: the line must not end in it.
    ...require(i32.isZero(v128.anyTrue([at, to].map(hasControl).reduce((all, one) => v128.or(all, one))))),
    ...plus(at, get(columnChars)),
    ...require(i32.equal(i32.load(get(at), 0), chars(' ima'))),
    ...set(terminator, NEWLINE),
    ...when(i32.differ(i32.load(get(at), 4), chars('-ng ')), [
      ...require(i32.equal(i32.load(get(at), 4), chars('-sig'))),
      ...require(i32.equal(i32.load8(get(at), 8), SPACE)),
      ...plus(at, i32.constant(1)),
      ...set(terminator, SPACE),
    ]),
    ...plus(at, i32.constant(8)),
  ];

  // The name of the algorithm with its colon and a zero is 8 bytes long, or 6; `sha2` and `256:` overlap.
  const algorithm = (text: string, bytesOfDigest: number): Code =>
    when(
      i32.and(i32.equal(i32.load(get(at), 0), chars(text)), i32.equal(i32.load(get(at), 3), chars(text.slice(3)))),
      set(size, i32.constant(bytesOfDigest)),
    );
  const digest: Code = [
    ...set(size, ZERO),
    ...set(lead, i32.constant(8)),
    ...algorithm('sha256:', 32),
    ...when(i32.isZero(get(size)), [
      ...algorithm('sha384:', 48),
      ...algorithm('sha512:', 64),
      ...when(
        i32.and(i32.equal(i32.load(get(at), 0), chars('sha1')), i32.equal(i32.load8(get(at), 4), i32.constant(0x3a))),
        [...set(size, i32.constant(20)), ...set(lead, i32.constant(6))],
      ),
      ...require(get(size)),
    ]),
    ...i32.store(get(out), 0, i32.add(get(size), get(lead))),
    ...i32.store(get(out), 4, i32.load(get(at), 0)),
    ...i32.store(get(out), 8, i32.and(i32.load(get(at), 4), i32.constant(0xffffff))),
    ...when(i32.equal(get(lead), i32.constant(6)), i32.store8(get(out), 9, ZERO)),
    ...set(to, i32.add(i32.add(get(out), i32.constant(4)), get(lead))),
    ...set(at, i32.add(i32.subtract(get(at), i32.constant(1)), get(lead))),
    ...set(start, get(at)),
    ...set(limit, i32.add(get(at), i32.shiftLeft(get(size), 1))),
    ...readHex,
    ...require(i32.equal(get(at), get(limit))),
    ...require(i32.equal(i32.load8(get(at), 0), SPACE)),
    ...plus(at, i32.constant(1)),
  ];

  const path: Code = [
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.digestStarts, get(start)),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.pathStarts, get(at)),
    ...set(named, get(to)),
    ...plus(to, i32.constant(4)),
    ...set(start, get(at)),
    ...set(limit, i32.add(get(at), i32.constant(LONGEST_FIELD))),
    ...set(wide, ZERO),
    ...repeatWhile(
      [
        ...set(chunk, v128.load(get(at), 0)),
        ...v128.store(get(to), 0, get(chunk)),
        ...set(
          nibbles,
          v128.or(bytes.equal(get(chunk), bytes.splat(get(terminator))), bytes.equal(get(chunk), splat(0x0a))),
        ),
        ...set(count, bytes.firstBits(v128.or(get(nibbles), bytes.equal(get(chunk), splat(0))))),
        ...set(count, i32.trailingZeros(i32.or(get(count), i32.constant(0x10000)))),
        // Of the last piece, what follows the path may count too: that is slower, not wrong.
        ...set(wide, i32.or(get(wide), bytes.firstBits(get(chunk)))),
        ...plus(at, get(count)),
        ...plus(to, get(count)),
      ],
      i32.and(i32.equal(get(count), i32.constant(16)), i32.lessThan(get(at), get(limit))),
    ),
    ...require(i32.equal(i32.load8(get(at), 0), get(terminator))),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.pathEnds, get(at)),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.wide, get(wide)),
    ...i32.store8(get(to), 0, ZERO),
    ...plus(to, i32.constant(1)),
    ...plus(at, i32.constant(1)),
    ...i32.store(get(named), 0, i32.subtract(get(at), get(start))),
  ];

  // The shape of `isSignatureShaped`: a type that there is, and bytes 7 and 8 say how many follow.
  const type = i32.load8(get(start), 0);
  const said = i32.or(i32.shiftLeft(i32.load8(get(start), 7), 8), i32.load8(get(start), 8));
  const signature: Code = when(i32.equal(get(terminator), SPACE), [
    ...set(named, get(to)),
    ...plus(to, i32.constant(4)),
    ...set(start, get(to)),
    ...set(limit, i32.add(get(at), i32.constant(2 * LONGEST_FIELD))),
    ...readHex,
    ...require(i32.equal(i32.load8(get(at), 0), NEWLINE)),
    ...plus(at, i32.constant(1)),
    ...set(size, i32.subtract(get(to), get(start))),
    ...i32.store(get(named), 0, get(size)),
    ...when(get(size), [
      ...require(i32.isZero(i32.lessThan(get(size), i32.constant(9)))),
      ...require(i32.equal(get(size), i32.add(i32.constant(9), said))),
      ...require([3, 5, 6].map((one) => i32.equal(type, i32.constant(one))).reduce((any, one) => i32.or(any, one))),
    ]),
  ]);

  // A one bit, zeros, and the number of bits, big-endian, at the end of the last block.
  const bits = i32.shiftLeft(get(size), 3);
  const swapped = i32.or(
    i32.or(i32.shiftLeft(bits, 24), i32.shiftLeft(i32.and(bits, i32.constant(0xff00)), 8)),
    i32.and(i32.shiftRight(bits, 8), i32.constant(0xff00)),
  );
  const padding: Code = [
    ...set(size, i32.subtract(get(to), get(out))),
    ...i32.store8(get(to), 0, i32.constant(0x80)),
    ...[0, 1, 2, 3, 4].flatMap((i) => v128.store(get(to), 1 + 16 * i, v128.splat(ZERO))),
    ...set(count, i32.shiftRight(i32.add(get(size), i32.constant(9 + 63)), 6)),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.addresses, get(out)),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.counts, get(count)),
    ...plus(out, i32.shiftLeft(get(count), 6)),
    ...i32.store(i32.subtract(get(out), i32.constant(4)), 0, swapped),
  ];

  const line: Code = [
    ...template,
    ...digest,
    ...path,
    ...signature,
    ...padding,
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.places, get(place)),
    ...i32.store(i32.shiftLeft(get(entry), 2), MEMORY.messageNumbers, get(message)),
    ...i32.store(i32.shiftLeft(get(entry), 2), MEMORY.lineStarts, get(from)),
    ...i32.store(i32.shiftLeft(get(message), 2), MEMORY.columnStarts, i32.add(get(from), i32.constant(COLUMN_START))),
    ...plus(place, i32.constant(32)),
    ...plus(message, i32.constant(1)),
    ...plus(entry, i32.constant(1)),
    ...set(from, get(at)),
  ];
  const room = i32.lessThan(get(out), i32.constant(MEMORY.messagesEnd - LONGEST_MESSAGE));
  const body: Code = [
    ...repeatWhile(
      when(i32.and(i32.lessThan(get(entry), get(stop)), room), line),
      i32.and(i32.lessThan(get(entry), get(stop)), room),
    ),
    ...failed,
    ...get(entry),
  ];
  return { name: 'readFiles', parameters, result: 'i32', locals: locals.types, body };
}

const EVEN_BYTES = [0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14];

type Five = [number, number, number, number, number];
