import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAgentId } from '@keylime/core/agent-id';
import { fakeClock } from '@keylime/testing/fake-clock';
import { type EvaluatorParts, openEvaluator } from './evaluator.ts';

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
