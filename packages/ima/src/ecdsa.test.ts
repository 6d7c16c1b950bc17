import assert from 'node:assert/strict';
import { createHash, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { verifyEcdsa } from './ecdsa.ts';

const CURVES = { 'P-256': p256, 'P-384': p384, 'P-521': p521, secp256k1 } as const;
const OPTIONS = { prehash: false, lowS: false, format: 'der' } as const;

type Reference = (typeof CURVES)[keyof typeof CURVES];
type Point = Parameters<Reference['Point']['BASE']['add']>[0];

for (const [crv, reference] of Object.entries(CURVES)) {
  const { Point, Signature } = reference;
  const { Fn, Fp, BASE } = Point;
  const { p, n } = Point.CURVE();
  const digest = createHash('sha256').update('hello\n').digest();
  const e = Fn.create(BigInt(`0x${digest.toString('hex')}`));
  const random = () => Fn.fromBytes(reference.utils.randomSecretKey());

  const keyOf = (point: Point): KeyObject => {
    const { x, y } = point.toAffine();
    const coordinate = (value: bigint) => Buffer.from(Fp.toBytes(value)).toString('base64url');
    return createPublicKey({ key: { kty: 'EC', crv, x: coordinate(x), y: coordinate(y) }, format: 'jwk' });
  };
  const der = (r: bigint, s: bigint) => new Signature(r, s).toBytes('der');
  const verify = (r: bigint, s: bigint, point: Point, of: Uint8Array = digest) =>
    verifyEcdsa(der(r, s), of, keyOf(point));

  test(`${crv}: signatures verify, changed ones do not, as the plain implementation says`, () => {
    for (const size of [1, 20, 32, 48, 64]) {
      const [secret, of] = [reference.utils.randomSecretKey(), randomBytes(size)];
      const publicKey = reference.getPublicKey(secret, false);
      const key = keyOf(Point.fromBytes(publicKey));
      const signature = reference.sign(of, secret, OPTIONS);
      assert.equal(verifyEcdsa(signature, of, key), true);
      for (let i = 0; i < 20; i++) {
        const [changed, other] = [Uint8Array.from(signature), Uint8Array.from(of)];
        const bytes = i % 2 === 0 ? changed : other;
        const at = randomBytes(1).readUInt8() % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (i % 8));
        assert.equal(verifyEcdsa(changed, other, key), plainly(changed, other, publicKey), `${size}, ${i}`);
      }
    }
  });

  function plainly(signature: Uint8Array, of: Uint8Array, publicKey: Uint8Array): boolean {
    try {
      return reference.verify(signature, of, publicKey, OPTIONS);
    } catch {
      return false;
    }
  }

  test(`${crv}: points that are equal, opposite or at infinity are added like any others`, () => {
    const [d, k] = [random(), random()];
    const { x } = BASE.multiply(k).toAffine();
    const r = Fn.create(x);
    // As many bits count as the order has: the leftmost.
    const digestOf = (value: bigint) => {
      const shifted = Fn.create(value) << BigInt(8 * Fn.BYTES - Fn.BITS);
      return Buffer.from(shifted.toString(16).padStart(2 * Fn.BYTES, '0'), 'hex');
    };
    // u1 G = u2 Q: the sum doubles a point.
    const product = Fn.mul(r, d);
    assert.equal(verify(r, Fn.div(Fn.mul(2n, product), k), BASE.multiply(d), digestOf(product)), true);
    // u1 G = -u2 Q: the sum is the point at infinity, whose x is no number.
    assert.equal(verify(r, random(), BASE.multiply(d), digestOf(Fn.neg(product))), false);
    // Q = G, and Q = -G; a digest of zeros leaves nothing of G.
    const s = (secret: bigint, of: bigint) => Fn.div(Fn.add(of, Fn.mul(r, secret)), k);
    assert.equal(verify(r, s(1n, e), BASE), true);
    assert.equal(verify(r, s(Fn.neg(1n), e), BASE.negate()), true);
    assert.equal(verify(r, s(d, 0n), BASE.multiply(d), Buffer.alloc(32)), true);
    assert.equal(verify(r, s(d, e), BASE.multiply(d).negate()), false);
  });

  test(`${crv}: an x that is larger than the order counts modulo the order`, () => {
    // A point R whose x is just above the order, and a key that makes it the sum.
    const [at, point] = Array.from({ length: 200 }, (_, i) => n + BigInt(i + 1))
      .filter((x) => x < p)
      .flatMap((x) => liftX(x).map((lifted) => [x, lifted] as const))[0] ?? [0n, BASE];
    const [r, s] = [Fn.create(at), random()];
    assert.ok(r > 0n && at > n);
    // s R = e G + r Q
    const key = point.multiply(s).subtract(BASE.multiply(e)).multiply(Fn.inv(r));
    assert.equal(verify(r, s, key), true);
    assert.equal(verify(Fn.add(r, 1n), s, key), false);
  });

  function liftX(x: bigint): readonly Point[] {
    try {
      return [
        Point.fromAffine({ x, y: Fp.sqrt(Fp.add(Fp.mul(Fp.add(Fp.sqr(x), Point.CURVE().a), x), Point.CURVE().b)) }),
      ];
    } catch {
      return [];
    }
  }

  test(`${crv}: no r and no s outside the range from 1 to the order less one is looked at`, () => {
    const [secret] = [reference.utils.randomSecretKey()];
    const signature = Signature.fromBytes(reference.sign(digest, secret, OPTIONS), 'der');
    const key = keyOf(Point.fromBytes(reference.getPublicKey(secret, false)));
    const integer = (value: bigint) => {
      const hex = value.toString(16);
      const bytes = Buffer.from(`00${hex.length % 2 ? '0' : ''}${hex}`, 'hex');
      const shortest = bytes.subarray((bytes[1] ?? 0) < 0x80 && bytes.length > 1 ? 1 : 0);
      return Buffer.concat([Buffer.of(2, shortest.length), shortest]);
    };
    const encoded = (r: bigint, s: bigint) => {
      const body = Buffer.concat([integer(r), integer(s)]);
      return Buffer.concat([
        body.length < 128 ? Buffer.of(0x30, body.length) : Buffer.of(0x30, 0x81, body.length),
        body,
      ]);
    };
    const { r, s } = signature;
    assert.equal(verifyEcdsa(encoded(r, s), digest, key), true);
    for (const [badR, badS] of [
      [0n, s],
      [r, 0n],
      [n, s],
      [r, n],
      [r + n, s],
      [r, s + n],
    ] as const) {
      assert.equal(verifyEcdsa(encoded(badR, badS), digest, key), false);
    }
    assert.equal(verifyEcdsa(Buffer.concat([encoded(r, s), Buffer.of(0)]), digest, key), false);
    assert.equal(verifyEcdsa(encoded(r, s), Buffer.alloc(0), key), false);
  });
}
