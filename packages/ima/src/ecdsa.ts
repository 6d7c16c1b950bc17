import type { KeyObject } from 'node:crypto';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { Curve, type Multiples } from './curve.ts';
import { curvePoint } from './public-key.ts';
import { sameKey } from './same-key.ts';

/** By node:crypto's names: parameters, signatures in DER and division modulo the order. */
const CURVES: ReadonlyMap<string, typeof p256> = new Map([
  ['prime256v1', p256],
  ['secp384r1', p384],
  ['secp521r1', p521],
  ['secp256k1', secp256k1],
]);

/** Opened when first needed. */
const open = new Map<string, Curve>();
/** Made with the first signature of a key, about as long as a few of its signatures take. */
const multiplesOfKeys = new WeakMap<KeyObject, Multiples>();

/** In bytes: more than two numbers of the largest order in DER take. */
export const LONGEST_ECDSA_SIGNATURE = 150;

/**
 * Whether `signature`, a DER SEQUENCE of r and s, is by `key` over `digest` (FIPS 186-5 section 6.4.2; SEC 1 section 4.1.4).
 * node:crypto cannot: it hashes what it verifies. Never throws, whatever the bytes are.
 */
export function verifyEcdsa(signature: Uint8Array, digest: Uint8Array, key: KeyObject): boolean {
  const name = key.asymmetricKeyDetails?.namedCurve ?? '';
  const parameters = CURVES.get(name);
  if (parameters === undefined || digest.length === 0) return false;
  const { Fn } = parameters.Point;
  const parsed = signature.length > LONGEST_ECDSA_SIGNATURE ? undefined : parseSignature(signature, parameters);
  if (parsed === undefined) return false;
  const { r, s } = parsed;
  const curve = open.get(name) ?? new Curve(parameters.Point.CURVE());
  open.set(name, curve);
  const first = sameKey(key);
  const multiples = multiplesOfKeys.get(first) ?? multiplesOf(first, curve);
  multiplesOfKeys.set(first, multiples);
  const inverse = Fn.inv(s);
  return curve.sumHasX(r, Fn.mul(leftmostBits(digest, Fn.BITS), inverse), Fn.mul(r, inverse), multiples);
}

/** r and s are from 1 to the order less one. */
function parseSignature(bytes: Uint8Array, { Signature }: typeof p256): { r: bigint; s: bigint } | undefined {
  try {
    return Signature.fromBytes(bytes, 'der');
  } catch {
    // What is no DER sequence of two integers in range is no signature.
    return undefined;
  }
}

/** A longer digest counts with as many bits as the order has. */
function leftmostBits(digest: Uint8Array, bits: number): bigint {
  const surplus = Math.max(0, 8 * digest.length - bits);
  return BigInt(`0x${Buffer.from(digest).toString('hex')}`) >> BigInt(surplus);
}

/** OpenSSL made sure that the point is on the curve when it made the key. */
function multiplesOf(key: KeyObject, curve: Curve): Multiples {
  const point = curvePoint(key);
  const size = (point.length - 1) / 2;
  const number = (at: number) => BigInt(`0x${point.toString('hex', at, at + size)}`);
  return curve.multiplesOf(number(1), number(1 + size));
}
