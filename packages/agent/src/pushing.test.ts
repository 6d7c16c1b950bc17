import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import type { Delivered } from './push-attestation.ts';
import { PushError, type PushErrorCode } from './push-error.ts';
import { push } from './pushing.ts';
import { RetryLater } from './retry.ts';

const MINUTE_MS = 60_000;
const delivered = (nextInSeconds?: number): Delivered => ({ index: '0', evidence: 1, nextInSeconds });
const failed = (code: PushErrorCode, afterMs?: number) => new PushError(code, 'not now', { afterMs });

/** Runs the loop over `outcomes` of registrations and attestations; then the agent is stopped. */
async function run(attests: readonly (Delivered | Error)[], registers: readonly (Error | undefined)[] = []) {
  const stopping = new AbortController();
  const log = openLog({ name: 'test', level: 'critical', destination: { write: () => {} } });
  const pauses: number[] = [];
  const did: string[] = [];
  let [now, attested, registered] = [0, 0, 0];
  const step = (outcome: Delivered | Error | undefined) => {
    if (outcome instanceof Error) throw outcome;
    return outcome;
  };
  const ended = push({
    steps: {
      async register() {
        did.push('register');
        step(registers[registered++]);
      },
      async attest() {
        did.push('attest');
        const outcome = step(attests[attested++]);
        if (outcome !== undefined) return outcome;
        stopping.abort();
        throw failed('verifier_unreachable');
      },
    },
    intervalSeconds: 60,
    backoff: { initialDelayMs: 10_000, maxDelayMs: 300_000 },
    log,
    signal: stopping.signal,
    pause: async (delayMs) => {
      pauses.push(delayMs);
      now += delayMs;
    },
    now: () => now,
  });
  const error: Error = await ended.then(assert.fail, (cause) => cause);
  return { pauses, did, error };
}

const within = (value: number | undefined, from: number, to: number) =>
  assert.ok(value !== undefined && value >= from && value <= to, `${value} is not within ${from} and ${to}`);

test('the agent attests when the verifier wants it, at its own interval when nothing is said, and never without a pause', async () => {
  const { pauses, did, error } = await run([delivered(7), delivered(), delivered(0), delivered(1e9)]);
  assert.deepEqual(pauses, [7000, MINUTE_MS, 500, 86_400_000]);
  assert.deepEqual(did, ['register', 'attest', 'attest', 'attest', 'attest', 'attest']);
  assert.equal(error.name, 'AbortError');
});

test('a verifier that is away is tried after pauses that double up to the largest, each a little different', async () => {
  const away = Array.from({ length: 8 }, () => failed('verifier_unreachable'));
  const { pauses } = await run([...away, delivered(1), failed('verifier_unreachable')]);
  for (const [index, full] of [10, 20, 40, 80, 160, 300, 300, 300].entries()) {
    within(pauses[index], full * 500, full * 1000);
  }
  assert.equal(pauses[8], 1000);
  within(pauses[9], 5000, 10_000);
  const again = await run([...away]);
  assert.notDeepEqual(again.pauses, pauses.slice(0, 8));
});

test('a verifier that says when is left alone until then, but not longer than the largest pause', async () => {
  const busy = [7000, 0, 4_000_000].map((afterMs) => failed('verifier_busy', afterMs));
  const { pauses } = await run(busy);
  within(pauses[0], 7000, 7700);
  assert.equal(pauses[1], 500);
  within(pauses[2], 300_000, 330_000);
});

test('who is refused asks again at least every interval, for an operator may be at work', async () => {
  for (const code of [
    'not_admitted',
    'attestation_refused',
    'capabilities_refused',
    'evidence_refused',
    'evidence_unavailable',
  ] as const) {
    const { pauses } = await run(Array.from({ length: 6 }, () => failed(code)));
    within(pauses[0], 5000, 10_000);
    within(pauses[5], 30_000, MINUTE_MS);
  }
});

test('a registrar that is away is tried until it is back, before anything is asked of the verifier', async () => {
  const { did, pauses } = await run([], [new RetryLater('down'), new RetryLater('down'), undefined]);
  assert.deepEqual(did, ['register', 'register', 'register', 'attest']);
  assert.equal(pauses.length, 2);
});

test('an agent that is not admitted for an hour registers again: the registrar may have lost it', async () => {
  const strangers = Array.from({ length: 200 }, () => failed('not_admitted'));
  const { did, pauses } = await run(strangers);
  const again = did.indexOf('register', 1);
  const waited = pauses.slice(0, again - 1).reduce((sum, pause) => sum + pause, 0);
  within(waited, 60 * MINUTE_MS, 62 * MINUTE_MS);
});

test('a TPM that is another one, or a registrar that refuses it, ends the agent', async () => {
  const changed = await run([new AgentError('tpm_identity_changed', 'another TPM')]);
  assert.equal(changed.error instanceof AgentError && changed.error.code, 'tpm_identity_changed');
  const refused = await run([], [new AgentError('registration_refused', 'another EK')]);
  assert.equal(refused.error instanceof AgentError && refused.error.code, 'registration_refused');
  assert.deepEqual(refused.did, ['register']);
});
