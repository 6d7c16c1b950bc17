import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Expectation } from '@keylime/appraisal/appraise';
import { type AppraisalPool, AppraisalPoolError } from './appraisal-pool.ts';
import { judgeHereOrElsewhere } from './judge-elsewhere.ts';

const policies = { findText: async () => '{}' };
/** What `appraise` reads of it throws: stands for a fault in our own code on some answer. */
const broken = new Proxy({}, { get: () => assert.fail('broken') }) as Expectation;
const expectation = { runtimePolicy: { checksum: 'c' } } as Expectation;
const evidence = Buffer.from(JSON.stringify({ results: { quote: 'r', pubkey: 'PEM' } }));
const large = Buffer.alloc(1024 * 1024, ' ');
const progress = { nextEntry: 7 };

const poolThat = (code: AppraisalPoolError['code']): AppraisalPool => ({
  run: () => Promise.reject(new AppraisalPoolError(code, code)),
  close: async () => {},
});

test('an answer on which our own code breaks is inconclusive, so that it cannot be repeated for ever', async () => {
  const judge = judgeHereOrElsewhere(poolThat('pool_full'), policies);
  const outcome = await judge(evidence, broken, progress);
  assert.equal(outcome.kind, 'inconclusive');
  const elsewhere = await judgeHereOrElsewhere(poolThat('task_failed'), policies)(large, expectation, progress);
  assert.ok(elsewhere.kind === 'inconclusive');
  assert.equal(elsewhere.progress.nextEntry, 0);
});

test('an answer that takes too long to judge is none', async () => {
  const outcome = await judgeHereOrElsewhere(poolThat('task_timeout'), policies)(large, expectation, progress);
  assert.equal(outcome.kind, 'unreachable');
});

test('a full queue is a fault of ours, not a verdict', async () => {
  const judge = judgeHereOrElsewhere(poolThat('pool_full'), policies);
  await assert.rejects(async () => judge(large, expectation, progress), { code: 'pool_full' });
});
