import assert from 'node:assert/strict';
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify as verifyMessage,
} from 'node:crypto';
import { test } from 'node:test';
import { tlv } from '@keylime/identity/forge-certificate';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { verifyEcdsa } from './ecdsa.ts';

const CURVES = { 'P-256': p256, 'P-384': p384, 'P-521': p521, secp256k1 } as const;
const MESSAGE = Buffer.from('hello\n');
const OPTIONS = { prehash: false, lowS: false, format: 'der' } as const;

type Reference = (typeof CURVES)[keyof typeof CURVES];
type Point = Parameters<Reference['Point']['BASE']['add']>[0];

for (const [crv, reference] of Object.entries(CURVES)) {
  const { Point, Signature } = reference;
  const { Fn, Fp, BASE } = Point;
  const { p, n } = Point.CURVE();
  const digest = createHash('sha256').update(MESSAGE).digest();
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

  test(`${crv}: numbers at the ends of their ranges count, with the key that makes them right`, () => {
    const firstFrom = (start: bigint, step: bigint): bigint => {
      for (let x = start; ; x += step) if (liftX(x).length > 0) return x;
    };
    for (const x of [firstFrom(1n, 1n), firstFrom(n - 1n, -1n), firstFrom(n + 1n, 1n), firstFrom(p - 1n, -1n)]) {
      for (const s of [1n, 2n, (n - 1n) / 2n, (n + 1n) / 2n, n - 2n, n - 1n]) {
        const [r, [point = BASE]] = [Fn.create(x), liftX(x)];
        // s R = e G + r Q
        const key = keyOf(point.multiply(s).subtract(BASE.multiply(e)).multiply(Fn.inv(r)));
        const other = Fn.add(s, 3n);
        for (const [signature, isRight] of [
          [der(r, s), true],
          [der(r, other), false],
        ] as const) {
          assert.equal(verifyEcdsa(signature, digest, key), isRight, `x = ${x}, s = ${s}`);
          assert.equal(verifyMessage('sha256', MESSAGE, key, signature), isRight, `node:crypto: x = ${x}, s = ${s}`);
        }
      }
    }
  });

  test(`${crv}: what is no DER, and numbers out of range, are refused, as node:crypto refuses them`, () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: crv });
    // Its numbers need a zero in front: half of all numbers do.
    const signature = Array.from({ length: 10_000 })
      .values()
      .map(() => Signature.fromBytes(sign('sha256', MESSAGE, privateKey), 'der'))
      .find((one) => [one.r, one.s].every((number) => integer(number)[2] === 0));
    assert.ok(signature);
    const { r, s } = signature;
    const [R, S] = [integer(r), integer(s)];
    const whole = tlv(0x30, R, S);
    const body = whole.subarray(-R.length - S.length);
    const withoutZero = (number: Buffer) => tlv(2, number.subarray(3));
    const padded = (number: Buffer) => tlv(2, Buffer.of(0), number.subarray(2));
    const longer = Buffer.concat([Buffer.of(0x30, 0x82, body.length >> 8, body.length & 0xff), body]);
    const refused: Readonly<Record<string, Buffer>> = {
      'a zero too many in r': tlv(0x30, padded(R), S),
      'a zero too many in s': tlv(0x30, R, padded(S)),
      'r below zero': tlv(0x30, withoutZero(R), S),
      's below zero': tlv(0x30, R, withoutZero(S)),
      'a long length': longer,
      'a long length of r': tlv(0x30, Buffer.of(2, 0x81), R.subarray(1), S),
      'an indefinite length': Buffer.concat([Buffer.of(0x30, 0x80), body, Buffer.alloc(2)]),
      'a byte after it': Buffer.concat([whole, Buffer.of(0)]),
      'a byte in it': tlv(0x30, R, S, Buffer.of(0)),
      'a third number': tlv(0x30, R, S, integer(1n)),
      'one number': tlv(0x30, R),
      'no number': tlv(0x30),
      nothing: Buffer.of(),
      'an empty number': tlv(0x30, tlv(2), S),
      'a SET': tlv(0x31, R, S),
      'octets for a number': tlv(0x30, tlv(4, R.subarray(2)), S),
      'one in another': tlv(0x30, whole),
      'both numbers plain': Buffer.concat([R.subarray(-Fn.BYTES), S.subarray(-Fn.BYTES)]),
      ...Object.fromEntries(
        [0n, n, n + 1n, p, r + n, 1n << BigInt(8 * Fn.BYTES), 1n << 511n].map((number) => [
          `r is ${number}`,
          tlv(0x30, integer(number), S),
        ]),
      ),
      ...Object.fromEntries(
        [0n, n, n + 1n, p, s + n, 1n << BigInt(8 * Fn.BYTES)].map((number) => [
          `s is ${number}`,
          tlv(0x30, R, integer(number)),
        ]),
      ),
      ...Object.fromEntries(Array.from(whole, (_, size) => [`${size} bytes of it`, whole.subarray(0, size)])),
    };
    assert.equal(verifyEcdsa(whole, digest, publicKey), true);
    assert.equal(verifyMessage('sha256', MESSAGE, publicKey, whole), true);
    for (const [name, bytes] of Object.entries(refused)) {
      assert.equal(verifyEcdsa(bytes, digest, publicKey), false, name);
      assert.equal(verifyMessage('sha256', MESSAGE, publicKey, bytes), false, `node:crypto: ${name}`);
    }
    assert.equal(verifyEcdsa(whole, Buffer.alloc(0), publicKey), false);
  });
}

/** INTEGER of a number that is not below zero. */
function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex');
  return (bytes[0] ?? 0) < 0x80 ? tlv(2, bytes) : tlv(2, Buffer.of(0), bytes);
}
