/*
 * The few WebAssembly instructions that our modules need, as functions that return bytes. An operand comes before its
 * operator, so an expression is the concatenation of its parts. Source: WebAssembly Core Specification 2.0, chapter 5.
 */

/** Instructions in binary form. */
export type Code = readonly number[];

/** A number of 32 bits or of 64, or four of 32. */
export type ValueType = 'i32' | 'i64' | 'v128';

/** Hands out numbers of locals, which follow those of the parameters. */
export class Locals {
  readonly types: ValueType[] = [];
  readonly #parameters: number;
  constructor(parameters: number) {
    this.#parameters = parameters;
  }
  one(type: ValueType): number {
    return this.#parameters + this.types.push(type) - 1;
  }
  many(type: ValueType, count: number): number[] {
    return Array.from({ length: count }, () => this.one(type));
  }
}

/** `list[i]`, counted round: the caller knows the list to be there. */
export const at = (list: readonly number[], i: number): number => list[i % list.length] ?? 0;

const VALUE_TYPES = { i32: 0x7f, i64: 0x7e, v128: 0x7b } as const;
const SIMD = 0xfd;
const EMPTY_BLOCK = 0x40;
const ALIGN_1 = 0;
const ALIGN_4 = 2;
/** What an access says of its address is a hint: one that does not hold is slower, not wrong. */
const ALIGN_16 = 4;

function unsigned(value: number): Code {
  const low = value & 0x7f;
  return value > 0x7f ? [low | 0x80, ...unsigned(value >>> 7)] : [low];
}

function signed(value: number): Code {
  const low = value & 0x7f;
  const rest = value >> 7;
  const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
  return done ? [low] : [low | 0x80, ...signed(rest)];
}

const operator =
  (...opcode: number[]) =>
  (...operands: Code[]): Code => [...operands.flat(), ...opcode];

/** Value of a local. */
export const get = (local: number): Code => [0x20, ...unsigned(local)];
/** Gives a local a value. */
export const set = (local: number, value: Code): Code => [...value, 0x21, ...unsigned(local)];
/** The same, and the value is the result. */
export const tee = (local: number, value: Code): Code => [...value, 0x22, ...unsigned(local)];

/** Repeats `body` while the condition at its end is not zero. */
export const repeatWhile = (body: Code, condition: Code): Code => [
  0x03,
  EMPTY_BLOCK,
  ...body,
  ...condition,
  0x0d,
  0x00,
  0x0b,
];
/** Runs `body` if the condition is not zero. */
export const when = (condition: Code, body: Code): Code => [...condition, 0x04, EMPTY_BLOCK, ...body, 0x0b];
/** Ends the function with `value`. */
export const returned = (value: Code): Code => [...value, 0x0f];
/** Calls the function of that number in its module. */
export const call = (functionNumber: number, ...operands: Code[]): Code => [
  ...operands.flat(),
  0x10,
  ...unsigned(functionNumber),
];

/** Numbers of 32 bits; `load` and `store` add the constant `offset` to the address. */
export const i32 = {
  constant: (value: number): Code => [0x41, ...signed(value | 0)],
  load: (address: Code, offset: number): Code => [...address, 0x28, ALIGN_4, ...unsigned(offset)],
  store: (address: Code, offset: number, value: Code): Code => [
    ...address,
    ...value,
    0x36,
    ALIGN_4,
    ...unsigned(offset),
  ],
  load8: (address: Code, offset: number): Code => [...address, 0x2d, ALIGN_1, ...unsigned(offset)],
  store8: (address: Code, offset: number, value: Code): Code => [
    ...address,
    ...value,
    0x3a,
    ALIGN_1,
    ...unsigned(offset),
  ],
  isZero: operator(0x45),
  equal: operator(0x46),
  differ: operator(0x47),
  lessThan: operator(0x49),
  trailingZeros: operator(0x68),
  add: operator(0x6a),
  subtract: operator(0x6b),
  multiply: operator(0x6c),
  and: operator(0x71),
  or: operator(0x72),
  xor: operator(0x73),
  shiftLeft: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), 0x74],
  shiftRight: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), 0x76],
  rotateRight: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), 0x78],
};

/** Numbers of 64 bits, in memory the lower 32 of them. */
export const i64 = {
  /** Of 32 bits with a sign. */
  constant: (value: number): Code => [0x42, ...signed(value | 0)],
  load32: (address: Code, offset: number): Code => [...address, 0x35, ALIGN_4, ...unsigned(offset)],
  store32: (address: Code, offset: number, value: Code): Code => [
    ...address,
    ...value,
    0x3e,
    ALIGN_4,
    ...unsigned(offset),
  ],
  add: operator(0x7c),
  subtract: operator(0x7d),
  multiply: operator(0x7e),
  and: operator(0x83),
  xor: operator(0x85),
  shiftRight: (value: Code, bits: number): Code => [...value, ...i64.constant(bits), 0x88],
  /** Keeps the sign. */
  shiftRightSigned: (value: Code, bits: number): Code => [...value, ...i64.constant(bits), 0x87],
};

/** Four 32-bit lanes. */
export const v128 = {
  load: (address: Code, offset: number): Code => [...address, SIMD, 0x00, ALIGN_16, ...unsigned(offset)],
  loadSplat: (address: Code, offset: number): Code => [...address, SIMD, 0x09, ALIGN_4, ...unsigned(offset)],
  store: (address: Code, offset: number, value: Code): Code => [
    ...address,
    ...value,
    SIMD,
    0x0b,
    ALIGN_16,
    ...unsigned(offset),
  ],
  storeLane: (address: Code, offset: number, value: Code, lane: number): Code => [
    ...address,
    ...value,
    SIMD,
    0x5a,
    ALIGN_4,
    ...unsigned(offset),
    lane,
  ],
  splat: operator(SIMD, 0x11),
  shuffle: (a: Code, b: Code, bytes: Code): Code => [...a, ...b, SIMD, 0x0d, ...bytes],
  and: operator(SIMD, 0x4e),
  or: operator(SIMD, 0x50),
  xor: operator(SIMD, 0x51),
  /** Bits of `a` where `mask` has ones, of `b` where it has zeros. */
  select: (a: Code, b: Code, mask: Code): Code => [...a, ...b, ...mask, SIMD, 0x52],
  anyTrue: operator(SIMD, 0x53),
  equal: operator(SIMD, 0x37),
  greaterThan: operator(SIMD, 0x3b),
  replaceLane: (vector: Code, lane: number, value: Code): Code => [...vector, ...value, SIMD, 0x1c, lane],
  shiftLeft: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0xab, 0x01],
  shiftRight: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0xad, 0x01],
  add: operator(SIMD, 0xae, 0x01),
  rotateRight: (value: Code, bits: number): Code =>
    v128.or(v128.shiftRight(value, bits), v128.shiftLeft(value, 32 - bits)),
  /** Two lanes of 64 bits. */
  shiftRight64: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0xcd, 0x01],
};

/** Sixteen lanes of a byte. */
export const bytes = {
  splat: operator(SIMD, 0x0f),
  equal: operator(SIMD, 0x23),
  lessThan: operator(SIMD, 0x26),
  add: operator(SIMD, 0x6e),
  subtract: operator(SIMD, 0x71),
  shiftRight: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0x6d],
  /** The bytes of `table` at the sixteen places. */
  lookUp: (table: Code, places: Code): Code => [...table, ...places, SIMD, 0x0e],
  /** The first bit of each byte, as a number. */
  firstBits: operator(SIMD, 0x64),
};

/** Eight lanes of 16 bits. */
export const halves = {
  shiftLeft: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0x8b, 0x01],
  shiftRight: (value: Code, bits: number): Code => [...value, ...i32.constant(bits), SIMD, 0x8d, 0x01],
};

/** The bytes of some of the eight words of two vectors, for `v128.shuffle`. */
export const words = (...lanes: number[]): number[] =>
  lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3]);

/** A function of a module, exported by its name. */
export type WasmFunction = {
  readonly name: string;
  readonly parameters: readonly ValueType[];
  readonly result?: ValueType;
  /** Numbered after the parameters. */
  readonly locals: readonly ValueType[];
  readonly body: Code;
};

const vector = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()];
const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content];
const name = (text: string): Code => vector([...Buffer.from(text)].map((byte) => [byte]));
const type = (value: ValueType): Code => [VALUE_TYPES[value]];

/** A module that exports `functions`; it imports `env.memory`, of at least `pages` times 64 KiB, and puts `data` first. */
export function encodeModule(
  functions: readonly WasmFunction[],
  pages: number,
  data: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const signatures = functions.map(({ parameters, result }) => [
    0x60,
    ...vector(parameters.map(type)),
    ...vector(result ? [type(result)] : []),
  ]);
  const bodies = functions.map(({ locals, body }) => {
    const content = [...vector(locals.map((local) => [1, ...type(local)])), ...body, 0x0b];
    return [...unsigned(content.length), ...content];
  });
  const memory = [...name('env'), ...name('memory'), 0x02, 0x00, ...unsigned(pages)];
  const exports = functions.map((one, i) => [...name(one.name), 0x00, ...unsigned(i)]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, vector(signatures)),
    ...section(2, vector([memory])),
    ...section(3, vector(functions.map((_, i) => unsigned(i)))),
    ...section(7, vector(exports)),
    ...section(10, vector(bodies)),
    ...section(11, vector([[0x00, ...i32.constant(0), 0x0b, ...unsigned(data.length), ...data]])),
  ]);
}

/** What is used of the WebAssembly JavaScript interface, whose types come with a browser's. */
declare const WebAssembly: {
  readonly validate: (bytes: Uint8Array) => boolean;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Instance: new (module: object, imports: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

/** `undefined` on a processor that lacks what the module needs. */
export const compileModule = (bytes: Uint8Array): object | undefined =>
  WebAssembly.validate(bytes) ? new WebAssembly.Module(bytes) : undefined;

/** The functions of a module, which are of type `Functions`, with a memory of their own of `pages` times 64 KiB. */
export function instantiateModule<Functions>(
  module: object,
  pages: number,
): Functions & { readonly memory: ArrayBuffer } {
  const memory = new WebAssembly.Memory({ initial: pages });
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  return { ...(exports as Functions), memory: memory.buffer };
}
