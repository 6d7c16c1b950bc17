import assert from 'node:assert/strict';
import { test } from 'node:test';
import { p521 } from '@noble/curves/nist.js';
import fc from 'fast-check';
import { encodeCurveModule, LIMB_BITS, limbsOf, type Place, placeOffset, toLimbs } from './curve-module.ts';
import { compileModule, instantiateModule } from './wasm.ts';

type Field = {
  readonly [name in 'multiply' | 'add' | 'subtract']: (to: number, a: number, b: number) => void;
};

/** The numbers with which carries and borrows run through all limbs are near 0, the prime and powers of 2. */
const numberBelow = (prime: bigint) =>
  fc.oneof(
    fc.bigInt(0n, prime - 1n),
    fc.bigInt(0n, 3n),
    fc.bigInt(prime - 3n, prime - 1n),
    fc.nat(prime.toString(2).length - 1).map((bit) => (1n << BigInt(bit)) - 1n),
  );

for (const prime of [p521.Point.CURVE().p, 2n ** 256n - 189n, 2n ** 29n - 3n, 2n ** 57n - 13n, 2n ** 58n - 27n]) {
  test(`modulo a prime of ${prime.toString(2).length} bits all operations are exact`, () => {
    const limbs = limbsOf(prime);
    const compiled = compileModule(encodeCurveModule(prime));
    assert.ok(compiled);
    const module = instantiateModule<Field>(compiled, 1);
    const view = new DataView(module.memory);
    const [a, b, to] = (['X1', 'X2', 'Y2'] satisfies Place[]).map((place) => placeOffset(place, limbs)) as [
      number,
      number,
      number,
    ];
    const write = (at: number, value: bigint) => {
      for (const [i, limb] of toLimbs(value, limbs).entries()) view.setUint32(at + 4 * i, limb, true);
    };
    const read = (at: number): bigint =>
      Array.from({ length: limbs }, (_, i) => BigInt(view.getUint32(at + 4 * i, true)) << BigInt(LIMB_BITS * i)).reduce(
        (sum, limb) => sum + limb,
      );
    const factor = 1n << BigInt(LIMB_BITS * limbs);
    fc.assert(
      fc.property(numberBelow(prime), numberBelow(prime), (x, y) => {
        write(a, x);
        write(b, y);
        module.add(to, a, b);
        assert.equal(read(to), (x + y) % prime);
        module.subtract(to, a, b);
        assert.equal(read(to), (x - y + prime) % prime);
        module.multiply(to, a, b);
        const product = read(to);
        assert.ok(product < prime);
        assert.equal((product * factor) % prime, (x * y) % prime);
        module.multiply(a, a, a);
        assert.equal((read(a) * factor) % prime, (x * x) % prime, 'in place');
      }),
      { numRuns: 500 },
    );
  });
}

test('a prime whose sums would not fit into 64 bits is refused', () => {
  assert.throws(() => limbsOf(2n ** 1000n), RangeError);
});
