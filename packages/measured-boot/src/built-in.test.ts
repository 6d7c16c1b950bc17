import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILT_IN_POLICIES } from './built-in.ts';
import { acceptAll, rejectAll } from './constant-policies.ts';
import { vectorLog, verifiedBy } from './internal/samples.ts';

test('every verifier has the policies of the existing one and strict, each by its own name', () => {
  assert.deepEqual(
    BUILT_IN_POLICIES.map(({ name }) => name),
    ['accept-all', 'reject-all', 'example', 'strict'],
  );
});

test('every policy that judges relies on all PCRs that firmware and boot loaders extend', () => {
  for (const { name, pcrs } of BUILT_IN_POLICIES) {
    for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]) assert.ok(pcrs.includes(pcr), `${name}: PCR ${pcr}`);
    assert.ok(!pcrs.includes(10), name);
  }
});

test('accept-all accepts and reject-all refuses every boot, whatever the reference state', () => {
  const boot = verifiedBy(vectorLog('debian12-secureboot-vm'));
  for (const json of [undefined, {}, { kernels: 1 }, 'x']) {
    const [accepting, refusing] = [acceptAll.decodeReference(json), rejectAll.decodeReference(json)];
    assert(accepting.ok && refusing.ok);
    assert.deepEqual(acceptAll.evaluate(boot, accepting.value), []);
    assert.equal(rejectAll.evaluate(boot, refusing.value).length, 1);
  }
});
