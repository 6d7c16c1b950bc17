import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { fakeClock } from '@keylime/testing/fake-clock';
import { softwareAk } from '@keylime/testing/software-ak';
import { encodePublic } from '@keylime/tpm/public';
import type { Agent } from '../agent.ts';
import { sampleAgent } from '../testing/sample-agent.ts';
import type { Outcome, Transition } from '../transition.ts';
import { type EvaluatorParts, openEvaluator } from './evaluator.ts';

const ak = softwareAk({ encryption: 'ecc256' });
const emptyPolicy = decodeRuntimePolicy(EMPTY_RUNTIME_POLICY_TEXT);
/** What the agent below is asked for. */
const chosen = { challenge: 'bm9uY2U=', mask: 0x400, uefiLog: false };

test('[MUST] the agent is read before its attestation, so that one that is enrolled anew meanwhile gets no verdict of it', async () => {
  const id = parseAgentId('a');
  assert.ok(id);
  const clock = fakeClock();
  const read: string[] = [];
  const reading = (what: string) => async () => {
    read.push(what);
    await new Promise(setImmediate);
    return undefined;
  };
  const evaluator = openEvaluator({
    agents: { find: reading('agent') },
    attestations: { latest: reading('attestation') },
    clock,
  } as unknown as EvaluatorParts);
  evaluator.wake(id);
  await clock.advance(1);
  await evaluator.close();
  assert.deepEqual(read, ['agent', 'attestation']);
});

/** An evaluator with one agent whose evidence waits; `judge` tells what comes of it, if anything is judged at all. */
function evaluating(judge: () => Outcome, changes: { readonly body?: Buffer; readonly judgeWithinMs?: number } = {}) {
  const clock = fakeClock();
  const agent: Agent = { ...sampleAgent('a'), mode: 'push', akTpm: encodePublic(ak.public).toString('base64') };
  const stored: Agent[] = [];
  const attestation = { stage: 'evaluating_evidence', chosen, evidenceAtMs: clock.now() - 5000 };
  const rounds: Outcome['kind'][] = [];
  let judged = 0;
  const evaluator = openEvaluator({
    agents: { find: async () => agent },
    attestations: {
      latest: async () => ({ ...attestation, ...(stored.length > 0 && { stage: 'verification_complete' }) }),
      evidence: async () => ('body' in changes ? changes.body : Buffer.from('{}')),
    },
    steps: {
      store: async (before: Agent, { record, notification }: Transition) => {
        assert.equal(notification, undefined);
        const saved = { ...before, ...record };
        stored.push(saved);
        return saved;
      },
      report: () => {},
    },
    policies: { peek: () => emptyPolicy.ok && emptyPolicy.value },
    settings: {
      ...{
        quoteIntervalMs: 2000,
        silenceMs: 10_000,
        recoversByItself: false,
        violations: 'accept',
        extendMode: 'bank',
      },
      retry: { maxRetries: 2, intervalSeconds: 2, exponential: true },
      severity: { labels: ['info', 'emergency'], rules: [] },
      judgeWithinMs: changes.judgeWithinMs,
    },
    judge: () => {
      judged++;
      return judge();
    },
    onRound: (_id: AgentId, kind: Outcome['kind']) => rounds.push(kind),
    log: { error: () => {} },
    clock,
  } as unknown as EvaluatorParts);
  return { evaluator, clock, agent, stored, rounds, judged: () => judged };
}

test('who was postponed is not judged sooner for being reminded of', async () => {
  const { evaluator, clock, agent, judged } = evaluating(() => ({ kind: 'postponed', reason: 'full' }));
  evaluator.remind(agent.id);
  await clock.advance(1);
  assert.equal(judged(), 1);
  evaluator.remind(agent.id);
  await clock.advance(1000);
  evaluator.remind(agent.id);
  await clock.advance(900);
  assert.equal(judged(), 1);
  await clock.advance(200);
  assert.equal(judged(), 2);
  await evaluator.close();
});

const passes = (): Outcome => assert.fail('is not to be judged');
for (const [name, judge, changes] of [
  ['evidence that waited too long', passes, { judgeWithinMs: 4000 }],
  ['evidence that is not in the database', passes, { body: undefined }],
  ['evidence on which our own code breaks five times', () => assert.fail('broken'), {}],
] as const) {
  test(`[MUST] ${name} was not judged, and nothing was found against the machine`, async () => {
    const { evaluator, clock, agent, stored, rounds } = evaluating(judge, changes as { readonly body?: Buffer });
    evaluator.wake(agent.id);
    await clock.advance(10_000);
    await evaluator.close();
    assert.deepEqual(rounds, ['unjudged']);
    const [{ state, inconclusiveRounds, lastFailures } = agent] = stored;
    assert.deepEqual([state, inconclusiveRounds, lastFailures], ['start', 1, []]);
  });
}
