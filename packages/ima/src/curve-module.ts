import { type Code, call, encodeModule, get, i32, i64, set, type WasmFunction } from './wasm.ts';

/*
 * Arithmetic modulo a prime and the addition of points of a curve over it, in WebAssembly: node:crypto verifies no digest
 * that was made elsewhere, and numbers of type bigint are twenty times as slow. A number is kept as limbs of 29 bits in
 * words of 32, smaller than the prime and times 2^(29 * limbs) modulo the prime (P. Montgomery, Modular multiplication
 * without trial division, 1985). Time depends on nothing but the prime; everything here is public anyway.
 */

/** So few bits that a sum of all products of two limbs that a multiplication adds up fits into 64. */
export const LIMB_BITS = 29;
const LIMB_MASK = 2 ** LIMB_BITS - 1;
/** The sum is of two products for each limb. */
const MOST_LIMBS = 2 ** (64 - 2 * LIMB_BITS - 1);

/** Limbs of numbers up to twice the prime. */
export function limbsOf(prime: bigint): number {
  const limbs = Math.ceil((prime.toString(2).length + 1) / LIMB_BITS);
  if (limbs > MOST_LIMBS - 1) throw new RangeError(`A prime of ${limbs} limbs is too large.`);
  return limbs;
}

/** The limbs of a number, the lowest first. */
export const toLimbs = (value: bigint, limbs: number): number[] =>
  Array.from({ length: limbs }, (_, i) => Number((value >> BigInt(LIMB_BITS * i)) & BigInt(LIMB_MASK)));

/** Numbers in the module's memory, by their place. Points are projective: x = X/Z, y = Y/Z; Z = 0 is the point at infinity. */
const PLACES = [
  ...(['X1', 'Y1', 'Z1', 'X2', 'Y2', 'Z2', 'a', '3b'] as const),
  ...(['xx', 'yy', 'zz', 'xy', 'xz', 'yz', 's', 'd', 'e', 'u', 'v'] as const),
  'zero',
] as const;
export type Place = (typeof PLACES)[number];

/** Address of a number; a point is its three numbers one after the other. */
export const placeOffset = (place: Place, limbs: number): number => PLACES.indexOf(place) * 4 * limbs;

/** The functions of the module; `to`, `a` and `b` are addresses, which may be the same. */
export type CurveModule = {
  readonly multiply: (to: number, a: number, b: number) => void;
  readonly subtract: (to: number, a: number, b: number) => void;
  /** Adds the second point to the first. */
  readonly addPoint: () => void;
};

const FUNCTIONS = ['multiply', 'add', 'subtract'] as const;
type Step = readonly [operation: (typeof FUNCTIONS)[number], to: Place, a: Place, b: Place];

/** `to` = (a1 + b1)(a2 + b2) - square1 - square2: what the two products have across. */
const across = (to: Place, [a1, b1]: Two, [a2, b2]: Two, [square1, square2]: Two): readonly Step[] => [
  ['add', 'u', a1, b1],
  ['add', 'v', a2, b2],
  ['multiply', to, 'u', 'v'],
  ['subtract', to, to, square1],
  ['subtract', to, to, square2],
];
type Two = readonly [Place, Place];

/**
 * (X1 : Y1 : Z1) += (X2 : Y2 : Z2) on y² = x³ + ax + b, for any two points of a curve of odd order, equal ones and the point
 * at infinity included. Source: J. Renes, C. Costello, L. Batina, Complete addition formulas for prime order elliptic
 * curves, 2016, section 3.
 */
const ADDITION: readonly Step[] = [
  ['multiply', 'xx', 'X1', 'X2'],
  ['multiply', 'yy', 'Y1', 'Y2'],
  ['multiply', 'zz', 'Z1', 'Z2'],
  ...across('xy', ['X1', 'Y1'], ['X2', 'Y2'], ['xx', 'yy']),
  ...across('xz', ['X1', 'Z1'], ['X2', 'Z2'], ['xx', 'zz']),
  ...across('yz', ['Y1', 'Z1'], ['Y2', 'Z2'], ['yy', 'zz']),
  // s = a xz + 3b zz; then u = yy - s and v = yy + s.
  ['multiply', 's', '3b', 'zz'],
  ['multiply', 'u', 'a', 'xz'],
  ['add', 's', 's', 'u'],
  ['subtract', 'u', 'yy', 's'],
  ['add', 'v', 'yy', 's'],
  // d = 3 xx + a zz
  ['multiply', 's', 'a', 'zz'],
  ['add', 'd', 'xx', 'xx'],
  ['add', 'd', 'd', 'xx'],
  ['add', 'd', 'd', 's'],
  // e = a (xx - a zz) + 3b xz
  ['subtract', 's', 'xx', 's'],
  ['multiply', 's', 'a', 's'],
  ['multiply', 'e', '3b', 'xz'],
  ['add', 'e', 'e', 's'],
  // X1 = xy u - yz e
  ['multiply', 's', 'yz', 'e'],
  ['multiply', 'X1', 'xy', 'u'],
  ['subtract', 'X1', 'X1', 's'],
  // Y1 = u v + d e
  ['multiply', 's', 'd', 'e'],
  ['multiply', 'Y1', 'u', 'v'],
  ['add', 'Y1', 'Y1', 's'],
  // Z1 = yz v + xy d
  ['multiply', 's', 'xy', 'd'],
  ['multiply', 'Z1', 'yz', 'v'],
  ['add', 'Z1', 'Z1', 's'],
];

/** Parameters of multiply, add and subtract. */
const [TO, A, B] = [0, 1, 2];
const PARAMETERS = ['i32', 'i32', 'i32'] as const;

const range = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);
const limbOf = (value: Code): Code => i64.and(value, i64.constant(LIMB_MASK));
const load = (address: number, limb: number): Code => i64.load32(get(address), 4 * limb);
const plus = (local: number, value: Code): Code => set(local, i64.add(get(local), value));

/** Locals of the functions, after the parameters. */
const localsOf = (limbs: number) => ({
  types: range(2 * limbs + 2).map(() => 'i64' as const),
  carry: 3,
  factor: 4,
  sums: range(limbs).map((i) => 5 + i),
  others: range(limbs).map((i) => 5 + limbs + i),
});
type Locals = ReturnType<typeof localsOf>;

/** Brings `sums`, with whatever carries they have, to limbs; negative sums borrow. */
const carried = ({ carry, sums }: Locals, shift: typeof i64.shiftRight): Code => [
  ...set(carry, i64.constant(0)),
  ...sums.flatMap((local) => [
    ...plus(carry, get(local)),
    ...set(local, limbOf(get(carry))),
    ...set(carry, shift(get(carry), LIMB_BITS)),
  ]),
];

/** Stores the limbs `sums`, less the prime if it is not larger than they. */
const stored = (prime: readonly number[], { carry, sums, others }: Locals): Code => [
  ...set(carry, i64.constant(0)),
  ...sums.flatMap((local, i) => [
    ...plus(carry, i64.subtract(get(local), i64.constant(prime[i] ?? 0))),
    ...set(others[i] ?? 0, limbOf(get(carry))),
    ...set(carry, i64.shiftRightSigned(get(carry), LIMB_BITS)),
  ]),
  // The last borrow is all ones or all zeros.
  ...sums.flatMap((local, i) => {
    const less = get(others[i] ?? 0);
    return i64.store32(get(TO), 4 * i, i64.xor(less, i64.and(i64.xor(less, get(local)), get(carry))));
  }),
];

function multiply(prime: readonly number[], inverse: number): WasmFunction {
  const limbs = prime.length;
  const locals = localsOf(limbs);
  const { factor, sums, others } = locals;
  const sum = (column: number): number => sums[column % limbs] ?? 0;
  const round = (i: number): Code => [
    // The highest sum is new: its local was that of the lowest one of the round before.
    ...set(sum(i + limbs - 1), i64.constant(0)),
    ...set(factor, load(A, i)),
    ...others.flatMap((other, j) => plus(sum(i + j), i64.multiply(get(factor), get(other)))),
    ...set(factor, limbOf(i64.multiply(get(sum(i)), i64.constant(inverse)))),
    ...prime.flatMap((limb, j) => plus(sum(i + j), i64.multiply(get(factor), i64.constant(limb)))),
    ...plus(sum(i + 1), i64.shiftRight(get(sum(i)), LIMB_BITS)),
  ];
  const body = [
    ...others.flatMap((local, j) => set(local, load(B, j))),
    ...range(limbs).flatMap(round),
    ...set(sum(limbs - 1), i64.constant(0)),
    ...carried(locals, i64.shiftRight),
    ...stored(prime, locals),
  ];
  return { name: 'multiply', parameters: PARAMETERS, locals: locals.types, body };
}

function add(prime: readonly number[]): WasmFunction {
  const locals = localsOf(prime.length);
  const body = [
    ...locals.sums.flatMap((local, i) => set(local, i64.add(load(A, i), load(B, i)))),
    ...carried(locals, i64.shiftRight),
    ...stored(prime, locals),
  ];
  return { name: 'add', parameters: PARAMETERS, locals: locals.types, body };
}

function subtract(prime: readonly number[]): WasmFunction {
  const locals = localsOf(prime.length);
  const { carry, factor, sums } = locals;
  const body = [
    ...sums.flatMap((local, i) => set(local, i64.subtract(load(A, i), load(B, i)))),
    ...carried(locals, i64.shiftRightSigned),
    // All ones where the difference is negative, and then the prime is added.
    ...set(factor, get(carry)),
    ...sums.flatMap((local, i) => plus(local, i64.and(i64.constant(prime[i] ?? 0), get(factor)))),
    ...carried(locals, i64.shiftRightSigned),
    ...sums.flatMap((local, i) => i64.store32(get(TO), 4 * i, get(local))),
  ];
  return { name: 'subtract', parameters: PARAMETERS, locals: locals.types, body };
}

function addPoint(limbs: number): WasmFunction {
  const address = (place: Place): Code => i32.constant(placeOffset(place, limbs));
  const body = ADDITION.flatMap(([operation, to, a, b]) =>
    call(FUNCTIONS.indexOf(operation), address(to), address(a), address(b)),
  );
  return { name: 'addPoint', parameters: [], locals: [], body };
}

/** The module for curves over a prime field: `multiply(to, a, b)` and the like at addresses, and `addPoint()`. */
export function encodeCurveModule(prime: bigint): Uint8Array<ArrayBuffer> {
  const limbs = toLimbs(prime, limbsOf(prime));
  const inverse = negativeInverse(limbs[0] ?? 0);
  const functions = [multiply(limbs, inverse), add(limbs), subtract(limbs), addPoint(limbs.length)];
  return encodeModule(functions, 1, new Uint8Array());
}

/** -1/x modulo 2^29 of an odd number, by Newton's iteration: each step doubles the bits that are right, 3 at first. */
function negativeInverse(x: number): number {
  let inverse = x;
  for (let bits = 3; bits < LIMB_BITS; bits *= 2) inverse = Math.imul(inverse, 2 - Math.imul(x, inverse));
  return -inverse & LIMB_MASK;
}
