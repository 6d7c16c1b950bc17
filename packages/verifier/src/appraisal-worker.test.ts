import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Expectation } from '@keylime/appraisal/appraise';
import { EMPTY_RUNTIME_POLICY_TEXT, runtimePolicyChecksum } from '@keylime/policies/runtime-policy';
import type { AnswerJudged, AppraisalTask } from './appraisal-worker.ts';
import { openThreadPool } from './thread-pool.ts';

const pool = openThreadPool<AppraisalTask>({
  script: new URL('./appraisal-worker.ts', import.meta.url),
  workers: 1,
  maxWaiting: 1,
  taskTimeoutMs: 10_000,
});
after(() => pool.close());

const STRICT = EMPTY_RUNTIME_POLICY_TEXT;
const LAX = JSON.stringify({ ...JSON.parse(STRICT), excludes: ['.*'] });

/** What becomes of an answer without evidence, of which nothing but the policy counts here. */
const judge = (policyChecksum: string, policyText?: string) =>
  pool.run<AnswerJudged>({
    kind: 'answer',
    body: Buffer.from('{}'),
    expectation: {} as Expectation,
    policyChecksum,
    ...(policyText !== undefined && { policyText }),
    progress: { nextEntry: 0 },
    roundMs: 1000,
  });

test('[MUST] a thread judges by no other policy than the one that is named, also where it has that one already', async () => {
  const strict = runtimePolicyChecksum(STRICT);
  const another = { code: 'task_failed', message: /text of the runtime policy is another one/ };
  await assert.rejects(judge(strict, LAX), another);
  assert.deepEqual(await judge(strict), { kind: 'policy_wanted' });
  assert.equal((await judge(runtimePolicyChecksum(LAX))).kind, 'contraindicated');
  await assert.rejects(judge(strict, LAX), another);
  assert.equal((await judge(strict, STRICT)).kind, 'contraindicated');
  assert.equal((await judge(strict)).kind, 'contraindicated');
});

test('a policy that does not decode is a fault of this service, not a verdict', async () => {
  const text = '{"meta":';
  const expected = { code: 'task_failed', message: /runtime policy does not decode/ };
  await assert.rejects(judge(runtimePolicyChecksum(text), text), expected);
});
