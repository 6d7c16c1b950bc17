import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { KEY_BYTES, keyAuthTag, keyVerifyHmac, splitKey } from '@keylime/payload/key-split';
import { type Combination, MAX_WAITING, payloadKeys } from './payload-keys.ts';

const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';

/** What a tenant makes: `u` for the agent, `v` for the verifier. Both can be sent again and again. */
function delivery({ agentId = AGENT_ID, size = KEY_BYTES, payload = 'payload', k = randomBytes(size) } = {}) {
  const split = splitKey(k, randomBytes(size));
  return {
    k,
    u: () => ({ share: Buffer.from(split.u), authTag: keyAuthTag(k, agentId), payload: Buffer.from(payload) }),
    v: () => Buffer.from(split.v),
  };
}

/** K and payload are known, and are installed unless the test says that they are not. */
function assertCombined(combination: Combination, k: Buffer, payload = 'payload', isInstalled = true): void {
  assert.ok(combination.kind === 'combined', combination.kind);
  assert.deepEqual([combination.k, combination.payload], [k, Buffer.from(payload)]);
  combination.settle(isInstalled);
}

type Keys = ReturnType<typeof payloadKeys>;

function send(keys: Keys, one: ReturnType<typeof delivery>): Combination {
  keys.addU(one.u());
  return keys.addV(one.v());
}

test('the halves combine in either order, with keys of 16 and of 32 bytes', () => {
  for (const size of [16, 32]) {
    const one = delivery({ size });
    const keys = payloadKeys(AGENT_ID);
    assert.equal(keys.answer('c'), undefined);
    assert.equal(keys.addU(one.u()).kind, 'waiting');
    assertCombined(keys.addV(one.v()), one.k);
    assert.equal(keys.answer('c'), keyVerifyHmac(one.k, 'c'));
    const other = delivery({ size });
    assert.equal(keys.addV(other.v()).kind, 'waiting');
    assertCombined(keys.addU(other.u()), other.k);
    assert.equal(keys.answer('c'), keyVerifyHmac(other.k, 'c'));
  }
});

test('every U is tried with every V', () => {
  const keys = payloadKeys(AGENT_ID);
  const [first, second, third] = [delivery(), delivery({ size: 16 }), delivery()];
  for (const one of [first, second, third]) assert.equal(keys.addU(one.u()).kind, 'waiting');
  assert.equal(keys.addV(randomBytes(32)).kind, 'waiting');
  assertCombined(keys.addV(first.v()), first.k);
  assert.equal(keys.addV(third.v()).kind, 'waiting', 'both lists are emptied by a match');
});

test('[MUST] halves that do not belong together, swapped tags, and a payload for another agent never combine', () => {
  const keys = payloadKeys(AGENT_ID);
  const [one, other] = [delivery(), delivery()];
  const foreign = delivery({ agentId: 'another-agent' });
  assert.equal(keys.addU(one.u()).kind, 'waiting');
  assert.equal(keys.addV(other.v()).kind, 'waiting');
  assert.equal(keys.addU(foreign.u()).kind, 'waiting');
  assert.equal(keys.addV(foreign.v()).kind, 'waiting');
  const swapped = delivery();
  assert.equal(keys.addV(swapped.v()).kind, 'waiting');
  assert.equal(keys.addU({ ...swapped.u(), authTag: one.u().authTag }).kind, 'waiting');
  assert.equal(keys.answer('c'), undefined);
});

test('[MUST] a flood of halves pushes out the oldest, and blocks nobody', () => {
  const keys = payloadKeys(AGENT_ID);
  const [old, late] = [delivery(), delivery()];
  keys.addU(old.u());
  for (let n = 0; n < 1000; n++) keys.addU({ share: randomBytes(32), authTag: Buffer.alloc(48), payload: undefined });
  for (let n = 0; n < 1000; n++) keys.addV(randomBytes(32));
  assert.equal(keys.addV(old.v()).kind, 'waiting');
  keys.addU(late.u());
  assertCombined(keys.addV(late.v()), late.k);
  assert.ok(MAX_WAITING <= 16);
});

test('[MUST] U and V that are sent again run nothing: neither the same payload, nor one that was replaced', () => {
  const keys = payloadKeys(AGENT_ID);
  const [old, current] = [delivery(), delivery()];
  assertCombined(send(keys, old), old.k);
  assert.equal(send(keys, old).kind, 'repeated');
  assertCombined(send(keys, current), current.k);
  assert.equal(send(keys, old).kind, 'replayed');
  assert.equal(keys.answer('c'), keyVerifyHmac(current.k, 'c'));
  const next = delivery();
  assertCombined(send(keys, next), next.k);
});

test('another payload under the same key is a new delivery', () => {
  const keys = payloadKeys(AGENT_ID);
  const one = delivery();
  const other = delivery({ k: one.k, payload: 'another' });
  keys.addU(one.u());
  assertCombined(keys.addV(one.v()), one.k);
  keys.addU(other.u());
  assertCombined(keys.addV(other.v()), one.k, 'another');
});

test('[MUST] a K counts when its payload is installed, and not before', () => {
  const keys = payloadKeys(AGENT_ID);
  const one = delivery();
  const combined = send(keys, one);
  assert.ok(combined.kind === 'combined');
  assert.equal(keys.answer('c'), undefined);
  assert.equal(send(keys, one).kind, 'repeated', 'it is on its way');
  combined.settle(true);
  assert.equal(keys.answer('c'), keyVerifyHmac(one.k, 'c'));
  combined.settle(false);
  assert.equal(keys.answer('c'), keyVerifyHmac(one.k, 'c'), 'only the first call counts');
});

test('[MUST] a payload that could not be installed can be sent again, and its K does not count', () => {
  const keys = payloadKeys(AGENT_ID);
  const [before, one] = [delivery(), delivery()];
  assertCombined(send(keys, before), before.k);
  assertCombined(send(keys, one), one.k, 'payload', false);
  assert.equal(keys.answer('c'), keyVerifyHmac(before.k, 'c'), 'the one before is what is in place');
  assertCombined(send(keys, one), one.k, 'payload', false);
  assert.equal(send(keys, before).kind, 'repeated');
  assertCombined(send(keys, one), one.k);
  assert.equal(keys.answer('c'), keyVerifyHmac(one.k, 'c'));
});

test('[MUST] a payload that was refused cannot be sent again when another is in its place', () => {
  const keys = payloadKeys(AGENT_ID);
  const [refused, current] = [delivery(), delivery()];
  assertCombined(send(keys, refused), refused.k, 'payload', false);
  assertCombined(send(keys, current), current.k);
  assert.equal(send(keys, refused).kind, 'replayed');
});

test('[MUST] K does not count while the last payload under it is not in place, though one before is', () => {
  const keys = payloadKeys(AGENT_ID);
  const one = delivery();
  const other = delivery({ k: one.k, payload: 'another' });
  assertCombined(send(keys, one), one.k);
  assertCombined(send(keys, other), one.k, 'another', false);
  assert.equal(keys.answer('c'), undefined);
  assert.equal(send(keys, one).kind, 'repeated');
  assert.equal(keys.answer('c'), keyVerifyHmac(one.k, 'c'));
});

test('halves and keys that are not needed any more are zeroed', () => {
  const keys = payloadKeys(AGENT_ID);
  const [one, other] = [delivery(), delivery()];
  const halves = [one.u().share, randomBytes(32), randomBytes(32), one.v()] as const;
  keys.addU({ ...one.u(), share: halves[0] });
  keys.addV(halves[1]);
  keys.addU({ ...other.u(), share: halves[2] });
  const combined = keys.addV(halves[3]);
  for (const half of halves) assert.deepEqual(half, Buffer.alloc(32));
  assertCombined(combined, one.k);
  keys.close();
  assert.equal(keys.answer('c'), undefined);
});
