import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { isKeyAuthTag, joinKey, keyVerifyHmac } from '@keylime/payload/key-split';

/** What came with `keys/ukey`. `payload` is still encrypted. */
export type ReceivedU = { readonly share: Buffer; readonly authTag: Buffer; readonly payload: Buffer | undefined };

/** What an arriving half leads to. */
export type Combination =
  | { readonly kind: 'waiting' }
  /** K is known now. `k` belongs to the caller, who zeroes it. */
  | { readonly kind: 'combined'; readonly k: Buffer; readonly payload: Buffer | undefined }
  /** The same K and the same payload as at the last time: everything is in place. */
  | { readonly kind: 'repeated' }
  /** A K that another has replaced since: somebody sends old messages again. */
  | { readonly kind: 'replayed' };

/** Halves that wait for their counterpart; more push out the oldest, so that no sender can block or fill the agent. */
export const MAX_WAITING = 8;
const MAX_REMEMBERED = 1000;

/**
 * Collects U from the tenant and V from the verifier until a pair gives a K whose tag is that of the U, for this agent
 * [MUST] (spec 02 section 5.3). All key material here is zeroed when it is not needed any more.
 */
export function payloadKeys(agentId: string) {
  let us: ReceivedU[] = [];
  let vs: Buffer[] = [];
  let current: { readonly k: Buffer; readonly fingerprint: Buffer; readonly payload: Buffer } | undefined;
  // Fingerprints instead of keys: nobody can use them, and they end with the process.
  const fingerprintKey = randomBytes(32);
  const used: Buffer[] = [];
  const fingerprintOf = (bytes: Uint8Array) => createHmac('sha256', fingerprintKey).update(bytes).digest();

  function combine(): Combination {
    for (const u of us) {
      for (const v of vs) {
        if (u.share.length !== v.length) continue;
        const k = joinKey(u.share, v);
        if (isKeyAuthTag(k, agentId, u.authTag)) return accept(k, u, v);
        k.fill(0);
      }
    }
    return { kind: 'waiting' };
  }

  function accept(k: Buffer, u: ReceivedU, v: Buffer): Combination {
    const fingerprint = fingerprintOf(k);
    const payload = fingerprintOf(u.payload ?? Buffer.alloc(0));
    const isCurrent = current !== undefined && timingSafeEqual(current.fingerprint, fingerprint);
    if (isCurrent && current?.payload.equals(payload)) {
      k.fill(0);
      forget(u, v);
      return { kind: 'repeated' };
    }
    if (!isCurrent && used.some((one) => timingSafeEqual(one, fingerprint))) {
      k.fill(0);
      forget(u, v);
      return { kind: 'replayed' };
    }
    if (!isCurrent) used.push(fingerprint);
    if (used.length > MAX_REMEMBERED) used.shift();
    current?.k.fill(0);
    current = { k, fingerprint, payload };
    forgetAll();
    return { kind: 'combined', k: Buffer.from(k), payload: u.payload };
  }

  function forget(u: ReceivedU, v: Buffer): void {
    u.share.fill(0);
    v.fill(0);
    us = us.filter((one) => one !== u);
    vs = vs.filter((one) => one !== v);
  }

  function forgetAll(): void {
    for (const { share } of us) share.fill(0);
    for (const share of vs) share.fill(0);
    us = [];
    vs = [];
  }

  return {
    addU(u: ReceivedU): Combination {
      us.push(u);
      if (us.length > MAX_WAITING) us.shift()?.share.fill(0);
      return combine();
    },
    addV(v: Buffer): Combination {
      vs.push(v);
      if (vs.length > MAX_WAITING) vs.shift()?.fill(0);
      return combine();
    },
    /** Lower-case hex HMAC-SHA384 of the challenge under K, or `undefined` before K is known. */
    answer: (challenge: string): string | undefined => current && keyVerifyHmac(current.k, challenge),
    close(): void {
      forgetAll();
      current?.k.fill(0);
      current = undefined;
    },
  };
}
