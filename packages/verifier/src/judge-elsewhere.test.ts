import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Expectation } from '@keylime/appraisal/appraise';
import type { BootQuestion } from '@keylime/appraisal/boot-verdict';
import type { AppraisalTask } from './appraisal-worker.ts';
import { type JudgeParts, judgeHereOrElsewhere } from './judge-elsewhere.ts';
import { type ThreadPool, ThreadPoolError } from './thread-pool.ts';

const policies = { findText: async () => '{}' };
/** What `appraise` reads of it throws: stands for a fault in our own code on some answer. */
const broken = new Proxy({}, { get: () => assert.fail('broken') }) as Expectation;
const expectation = { runtimePolicy: { checksum: 'c' } } as Expectation;
const evidence = Buffer.from(JSON.stringify({ results: { quote: 'r', pubkey: 'PEM' } }));
const large = Buffer.alloc(1024 * 1024, ' ');
const progress = { nextEntry: 7 };

type Trouble = ThreadPoolError['code'];
const troubled = (code: Trouble) => () => Promise.reject(new ThreadPoolError(code, code));
const poolOf = (run: () => Promise<unknown>) => ({ run, close: async () => {} }) as ThreadPool<AppraisalTask>;

const judgeWith = (code: Trouble, changes: Partial<JudgeParts> = {}) =>
  judgeHereOrElsewhere({
    pool: poolOf(troubled(code)),
    policies,
    bootPolicies: { judge: troubled(code) },
    ...changes,
  });

/** A thread that found an answer whose boot has to be judged first. */
const bootUnjudged = poolOf(async () => ({ kind: 'boot_unjudged', question: { key: 'k' } as BootQuestion }));

test('an answer on which our own code breaks is inconclusive, so that it cannot be repeated for ever', async () => {
  const judge = judgeWith('pool_full');
  const outcome = await judge(evidence, broken, progress);
  assert.equal(outcome.kind, 'inconclusive');
  const elsewhere = await judgeWith('task_failed')(large, expectation, progress);
  assert.ok(elsewhere.kind === 'inconclusive');
  assert.equal(elsewhere.progress.nextEntry, 0);
});

test('an answer that takes too long to judge is none', async () => {
  const outcome = await judgeWith('task_timeout')(large, expectation, progress);
  assert.equal(outcome.kind, 'unreachable');
});

test('a full queue is a fault of ours, not a verdict', async () => {
  const judge = judgeWith('pool_full');
  await assert.rejects(async () => judge(large, expectation, progress), { code: 'pool_full' });
});

test('a boot that no thread judged is no pass: asked again, or a fault of ours', async () => {
  const judge = (code: Trouble) => judgeWith(code, { pool: bootUnjudged })(large, expectation, progress);
  assert.equal((await judge('task_failed')).kind, 'inconclusive');
  await assert.rejects(async () => judge('pool_full'), { code: 'pool_full' });
});

test('a verdict about another boot is none', async () => {
  const bootPolicies = { judge: async () => ({ key: 'another', failures: [] }) };
  const judge = judgeWith('task_failed', { pool: bootUnjudged, bootPolicies });
  assert.equal((await judge(large, expectation, progress)).kind, 'inconclusive');
});

test('a database that fails while an answer is judged is a fault of ours, not a verdict', async () => {
  const judge = judgeWith('task_failed', { policies: { findText: () => Promise.reject(new Error('no database')) } });
  await assert.rejects(async () => judge(large, expectation, progress), /no database/);
});
