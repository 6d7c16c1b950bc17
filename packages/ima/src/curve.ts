import {
  type CurveModule,
  encodeCurveModule,
  LIMB_BITS,
  limbsOf,
  type Place,
  placeOffset,
  toLimbs,
} from './curve-module.ts';
import { compileModule, instantiateModule } from './wasm.ts';

/** y² = x³ + ax + b modulo the prime `p`, with a generator G of the prime order `n` (SEC 1 section 3.1.1). */
export type CurveParameters = {
  readonly p: bigint;
  readonly a: bigint;
  readonly b: bigint;
  readonly n: bigint;
  readonly Gx: bigint;
  readonly Gy: bigint;
};

/** Of a point P and each power 32^i up to the order, the points d 32^i P for d from 1 to 16, as they are in memory. */
export type Multiples = Uint8Array;

/** A factor is cut into windows of so many bits, each of which is brought to the range from -15 to 16. */
const WINDOW_BITS = 5;
const LARGEST_DIGIT = 2 ** (WINDOW_BITS - 1);

/**
 * Sums of points of one curve, in WebAssembly. Where many multiples of one point are wanted, those of powers of 32 are kept
 * (`multiplesOf`), and no point is ever doubled: 104 additions for the sum of two multiples on a curve of 256 bits.
 */
export class Curve {
  readonly #parameters: CurveParameters;
  readonly #module: CurveModule & { readonly memory: ArrayBuffer };
  readonly #memory: Uint8Array;
  readonly #limbs: number;
  readonly #pointBytes: number;
  readonly #windows: number;
  readonly #ofGenerator: Multiples;

  constructor(parameters: CurveParameters) {
    const { p, a, b, n, Gx, Gy } = parameters;
    this.#parameters = parameters;
    this.#limbs = limbsOf(p);
    const compiled = compileModule(encodeCurveModule(p));
    if (compiled === undefined) throw new Error('This platform does not run WebAssembly.');
    this.#module = instantiateModule<CurveModule>(compiled, 1);
    this.#memory = new Uint8Array(this.#module.memory);
    this.#pointBytes = this.#offset('X2');
    // One bit more than the order has, for what the highest window carries.
    this.#windows = Math.ceil((n.toString(2).length + 1) / WINDOW_BITS);
    this.#write('a', a);
    this.#write('3b', (3n * b) % p);
    this.#write('zero', 0n);
    this.#ofGenerator = this.multiplesOf(Gx, Gy);
  }

  /** Of a point of the curve, which it must be: nobody looks again. */
  multiplesOf(x: bigint, y: bigint): Multiples {
    const memory = this.#memory;
    const size = this.#pointBytes;
    const multiples = new Uint8Array(this.#windows * LARGEST_DIGIT * size);
    this.#writePoint(x, y, 1n);
    for (let window = 0; window < this.#windows; window++) {
      memory.copyWithin(this.#offset('X2'), 0, size);
      let at = window * LARGEST_DIGIT * size;
      for (let digit = 1; digit < LARGEST_DIGIT; digit++, at += size) {
        multiples.set(memory.subarray(0, size), at);
        this.#module.addPoint();
      }
      multiples.set(memory.subarray(0, size), at);
      memory.copyWithin(this.#offset('X2'), 0, size);
      this.#module.addPoint();
    }
    return multiples;
  }

  /** Whether x of `ofGenerator` G + `ofPoint` P is `r` modulo the order. Never where that sum is the point at infinity. */
  sumHasX(r: bigint, ofGenerator: bigint, ofPoint: bigint, multiples: Multiples): boolean {
    this.#writePoint(0n, 1n, 0n);
    this.#addMultiple(this.#ofGenerator, ofGenerator);
    this.#addMultiple(multiples, ofPoint);
    if (this.#isEqual('Z1', 'zero')) return false;
    const { p, n } = this.#parameters;
    // x is X/Z, and may be larger than the order.
    for (let x = r; x < p; x += n) {
      this.#write('X2', x);
      this.#module.multiply(this.#offset('X2'), this.#offset('X2'), this.#offset('Z1'));
      if (this.#isEqual('X1', 'X2')) return true;
    }
    return false;
  }

  #addMultiple(multiples: Multiples, factor: bigint): void {
    const size = this.#pointBytes;
    let carry = 0;
    for (const [window, bits] of windowsOf(factor, this.#windows).entries()) {
      const digit = bits + carry > LARGEST_DIGIT ? bits + carry - 2 * LARGEST_DIGIT : bits + carry;
      carry = digit < bits ? 1 : 0;
      if (digit === 0) continue;
      const at = (window * LARGEST_DIGIT + Math.abs(digit) - 1) * size;
      this.#memory.set(multiples.subarray(at, at + size), this.#offset('X2'));
      if (digit < 0) this.#module.subtract(this.#offset('Y2'), this.#offset('zero'), this.#offset('Y2'));
      this.#module.addPoint();
    }
  }

  #writePoint(x: bigint, y: bigint, z: bigint): void {
    this.#write('X1', x);
    this.#write('Y1', y);
    this.#write('Z1', z);
  }

  #write(place: Place, value: bigint): void {
    const { p } = this.#parameters;
    const view = new DataView(this.#module.memory, this.#offset(place));
    const limbs = toLimbs((value << BigInt(LIMB_BITS * this.#limbs)) % p, this.#limbs);
    for (const [i, limb] of limbs.entries()) view.setUint32(4 * i, limb, true);
  }

  #isEqual(one: Place, other: Place): boolean {
    const at = (place: Place) => this.#memory.subarray(this.#offset(place), this.#offset(place) + 4 * this.#limbs);
    return Buffer.compare(at(one), at(other)) === 0;
  }

  #offset(place: Place): number {
    return placeOffset(place, this.#limbs);
  }
}

/** So many windows at a time: numbers of type bigint are slow. */
const AT_ONCE = 6;

/** The windows of `factor`, the lowest first, at least `count`; none is larger than 31. */
function windowsOf(factor: bigint, count: number): readonly number[] {
  const windows: number[] = [];
  for (let rest = factor; windows.length < count; rest >>= BigInt(AT_ONCE * WINDOW_BITS)) {
    const bits = Number(BigInt.asUintN(AT_ONCE * WINDOW_BITS, rest));
    for (let i = 0; i < AT_ONCE; i++) windows.push((bits >>> (WINDOW_BITS * i)) & (2 * LARGEST_DIGIT - 1));
  }
  return windows;
}
