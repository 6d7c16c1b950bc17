import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Expectation } from '@keylime/appraisal/appraise';
import type { BootQuestion } from '@keylime/appraisal/boot-verdict';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { AppraisalTask } from './appraisal-worker.ts';
import { type JudgeParts, judgeHereOrElsewhere } from './judge-elsewhere.ts';
import { type ThreadPool, ThreadPoolError } from './thread-pool.ts';

/** What `appraise` reads of it throws: stands for a fault in our own code on some answer. */
const broken = new Proxy({}, { get: () => assert.fail('broken') }) as Expectation;
const runtimePolicy = emptyPolicy();
const expectation = { runtimePolicy } as Expectation;
const evidence = Buffer.from(JSON.stringify({ results: { quote: 'r', pubkey: 'PEM' } }));
const large = Buffer.alloc(1024 * 1024, ' ');
const progress = { nextEntry: 7 };

function emptyPolicy(): RuntimePolicy {
  const decoded = decodeRuntimePolicy(EMPTY_RUNTIME_POLICY_TEXT);
  assert.ok(decoded.ok);
  return decoded.value;
}

type Trouble = ThreadPoolError['code'];
const troubled = (code: Trouble) => () => Promise.reject(new ThreadPoolError(code, code));
const poolOf = (run: (task: AppraisalTask) => Promise<unknown>) =>
  ({ run, close: async () => {} }) as ThreadPool<AppraisalTask>;

const judgeWith = (code: Trouble, changes: Partial<JudgeParts> = {}) =>
  judgeHereOrElsewhere({
    pool: poolOf(troubled(code)),
    bootPolicies: { judge: troubled(code) },
    roundMs: 5000,
    ...changes,
  });

/** A thread that found an answer whose boot has to be judged first. */
const bootUnjudged = poolOf(async () => ({ kind: 'boot_unjudged', question: { key: 'k' } as BootQuestion }));

test('an answer on which our own code breaks is not judged, and the whole list is asked for again', async () => {
  const here = await judgeWith('pool_full')(evidence, broken, progress);
  assert.deepEqual([here.kind, 'progress' in here && here.progress.nextEntry], ['unjudged', 0]);
  const elsewhere = await judgeWith('task_failed')(large, expectation, progress);
  assert.deepEqual(elsewhere, { kind: 'unjudged', progress: { nextEntry: 0 }, reason: 'task_failed' });
});

test('[MUST] an answer that takes too long is one that was not judged, not one that did not come', async () => {
  const outcome = await judgeWith('task_timeout')(large, expectation, progress);
  assert.deepEqual(outcome, { kind: 'unjudged', progress, reason: 'task_timeout' });
});

test('a full queue is no verdict: the answer is asked for again later', async () => {
  assert.deepEqual(await judgeWith('pool_full')(large, expectation, progress), {
    kind: 'postponed',
    reason: 'pool_full',
  });
});

test('a boot that no thread judged is no pass', async () => {
  for (const [code, kind] of [
    ['task_failed', 'unjudged'],
    ['task_timeout', 'unjudged'],
    ['pool_full', 'postponed'],
  ] as const) {
    assert.equal((await judgeWith(code, { pool: bootUnjudged })(large, expectation, progress)).kind, kind);
  }
});

test('a verdict about another boot is none', async () => {
  const bootPolicies = { judge: async () => ({ key: 'another', failures: [] }) };
  const judge = judgeWith('task_failed', { pool: bootUnjudged, bootPolicies });
  assert.equal((await judge(large, expectation, progress)).kind, 'unjudged');
});

test('a policy is handed over only where a thread does not have it', async () => {
  const tasks: AppraisalTask[] = [];
  const known = new Set<string>();
  const pool = poolOf(async (task) => {
    assert.ok(task.kind === 'answer');
    tasks.push(task);
    if (task.policy !== undefined) known.add(task.policy.checksum);
    return known.has(task.policyChecksum) ? { kind: 'refused' } : { kind: 'policy_wanted' };
  });
  const judge = judgeWith('task_failed', { pool });
  for (let round = 0; round < 3; round++) assert.equal((await judge(large, expectation, progress)).kind, 'refused');
  const sent = tasks.map((task) => 'policy' in task && task.policy?.checksum);
  assert.deepEqual(sent, [false, runtimePolicy.checksum, false, false]);
});
