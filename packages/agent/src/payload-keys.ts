import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { isKeyAuthTag, joinKey, keyVerifyHmac } from '@keylime/payload/key-split';

/** What came with `keys/ukey`. `payload` is still encrypted. */
export type ReceivedU = { readonly share: Buffer; readonly authTag: Buffer; readonly payload: Buffer | undefined };

/** What an arriving half leads to. */
export type Combination =
  | { readonly kind: 'waiting' }
  /**
   * K is known now. `k` belongs to the caller, who zeroes it, and tells with `settle` what became of the payload: until it
   * is installed K counts for nothing. Only the first call of `settle` counts.
   */
  | {
      readonly kind: 'combined';
      readonly k: Buffer;
      readonly payload: Buffer | undefined;
      readonly settle: (isInstalled: boolean) => void;
    }
  /** The same K and the same payload as at the last time: it is in place, or on its way there. */
  | { readonly kind: 'repeated' }
  /** A K that another has replaced since: somebody sends old messages again. */
  | { readonly kind: 'replayed' };

/** Halves that wait for their counterpart; more push out the oldest, so that no sender can block or fill the agent. */
export const MAX_WAITING = 8;
const MAX_REMEMBERED = 1000;

/** A payload that is installed, or being installed; fingerprints of its K and of what is encrypted. */
type Accepted = { readonly k: Buffer; readonly fingerprint: Buffer; readonly payload: Buffer };

/**
 * Collects U from the tenant and V from the verifier until a pair gives a K whose tag is that of the U, for this agent
 * [MUST] (spec 02 section 5.3). All key material here is zeroed when it is not needed any more.
 */
export function payloadKeys(agentId: string) {
  let us: ReceivedU[] = [];
  let vs: Buffer[] = [];
  let installed: Accepted | undefined;
  let underway: readonly Accepted[] = [];
  // Fingerprints instead of keys: nobody can use them, and they end with the process.
  const fingerprintKey = randomBytes(32);
  let used: readonly Buffer[] = [];
  /** Of keys whose payload was refused since the last one was installed: their owner may send it again. */
  let refused: readonly Buffer[] = [];
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
    const newest = underway.at(-1) ?? installed;
    const isNewest = newest !== undefined && timingSafeEqual(newest.fingerprint, fingerprint);
    const mayComeAgain = isNewest || has(refused, fingerprint);
    refused = refused.filter((one) => !one.equals(fingerprint));
    if (isNewest && newest.payload.equals(payload)) {
      k.fill(0);
      forget(u, v);
      return { kind: 'repeated' };
    }
    if (!mayComeAgain && has(used, fingerprint)) {
      k.fill(0);
      forget(u, v);
      return { kind: 'replayed' };
    }
    used = remember(used, fingerprint);
    const accepted = { k, fingerprint, payload };
    underway = [...underway, accepted];
    forgetAll();
    return {
      kind: 'combined',
      k: Buffer.from(k),
      payload: u.payload,
      settle: (isInstalled) => settle(accepted, isInstalled),
    };
  }

  function settle(accepted: Accepted, isInstalled: boolean): void {
    if (!underway.includes(accepted)) return;
    underway = underway.filter((one) => one !== accepted);
    if (isInstalled) {
      installed?.k.fill(0);
      installed = accepted;
      refused = [];
    } else {
      accepted.k.fill(0);
      refused = remember(refused, accepted.fingerprint);
    }
  }

  /** [MUST] Only for a K of which the last payload is in place, so that who is answered can rely on it. */
  function answer(challenge: string): string | undefined {
    if (installed === undefined) return undefined;
    const { k, fingerprint } = installed;
    const open = [...underway.map((one) => one.fingerprint), ...refused];
    return has(open, fingerprint) ? undefined : keyVerifyHmac(k, challenge);
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
    /** Lower-case hex HMAC-SHA384 of the challenge under K, or `undefined` before the payload of a K is in place. */
    answer,
    close(): void {
      forgetAll();
      for (const { k } of underway) k.fill(0);
      underway = [];
      installed?.k.fill(0);
      installed = undefined;
    },
  };
}

const has = (fingerprints: readonly Buffer[], wanted: Buffer): boolean =>
  fingerprints.some((one) => timingSafeEqual(one, wanted));

/** The oldest are forgotten first. */
const remember = (fingerprints: readonly Buffer[], one: Buffer): readonly Buffer[] =>
  has(fingerprints, one) ? fingerprints : [...fingerprints, one].slice(-MAX_REMEMBERED);
