import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Expectation } from '@keylime/appraisal/appraise';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { type SharedPolicy, sharePolicy } from '@keylime/policies/shared-policy';
import type { AnswerJudged, AppraisalTask } from './appraisal-worker.ts';
import { openThreadPool } from './thread-pool.ts';

const pool = openThreadPool<AppraisalTask>({
  script: new URL('./appraisal-worker.ts', import.meta.url),
  workers: 1,
  maxWaiting: 1,
  taskTimeoutMs: 10_000,
});
after(() => pool.close());

function shared(text: string): SharedPolicy {
  const decoded = decodeRuntimePolicy(text);
  assert.ok(decoded.ok);
  return sharePolicy(decoded.value);
}

const STRICT = shared(EMPTY_RUNTIME_POLICY_TEXT);
const LAX = shared(JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), excludes: ['.*'] }));

/** What becomes of an answer without evidence, of which nothing but the policy counts here. */
const judge = (policyChecksum: string, policy?: SharedPolicy) =>
  pool.run<AnswerJudged>({
    kind: 'answer',
    body: Buffer.from('{}'),
    expectation: {} as Expectation,
    policyChecksum,
    ...(policy && { policy }),
    progress: { nextEntry: 0 },
    roundMs: 1000,
  });

test('[MUST] a thread judges by no other policy than the one that is named, also where it has that one already', async () => {
  const another = { code: 'task_failed', message: /runtime policy that came along is another one/ };
  await assert.rejects(judge(STRICT.checksum, LAX), another);
  assert.deepEqual(await judge(STRICT.checksum), { kind: 'policy_wanted' });
  assert.equal((await judge(LAX.checksum, LAX)).kind, 'contraindicated');
  await assert.rejects(judge(STRICT.checksum, LAX), another);
  assert.equal((await judge(STRICT.checksum, STRICT)).kind, 'contraindicated');
  assert.equal((await judge(STRICT.checksum)).kind, 'contraindicated');
});

test('a policy that does not decode is a fault of this service, not a verdict', async () => {
  const broken = { ...STRICT, checksum: 'broken', rest: '{"meta":' };
  const expected = { code: 'task_failed', message: /runtime policy does not decode/ };
  await assert.rejects(judge(broken.checksum, broken), expected);
});
