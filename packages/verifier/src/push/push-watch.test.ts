import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { fakeClock } from '@keylime/testing/fake-clock';
import type { Agent } from '../agent.ts';
import { sampleAgent } from '../testing/sample-agent.ts';
import { openPushWatch } from './push-watch.ts';

test('[MUST] whose evidence waits is not missed, and one that cannot be stored keeps no other from being missed', async () => {
  const clock = fakeClock();
  const overdue = ['waiting', 'broken', 'silent'].map((name) => sampleAgent(name));
  const missed: string[] = [];
  const reminded: string[] = [];
  const lines: string[] = [];
  const watch = await openPushWatch({
    verifierId: 'mine',
    agents: { overdue: async (_now, limit) => overdue.slice(0, limit), waitUntil: async () => {} },
    attestations: { unjudged: async () => [sampleAgent('waiting').id], forget: async () => {} },
    sessions: { forgetExpired: async () => {} },
    steps: {
      async store(agent: Agent) {
        if (agent.id === 'broken') throw new Error('the row is locked');
        missed.push(agent.id);
        return agent;
      },
    },
    settings: {
      quoteIntervalMs: 2000,
      retry: { maxRetries: 2, intervalSeconds: 2, exponential: true },
      severity: { labels: ['info'], rules: [] },
      silenceMs: 10_000,
      recoversByItself: false,
    },
    remind: (id) => reminded.push(id),
    log: openLog({ name: 'test', level: 'error', destination: { write: (line: string) => lines.push(line) } }),
    clock,
  });
  await clock.advance(1000);
  assert.deepEqual(missed, ['silent']);
  assert.deepEqual(reminded, ['waiting']);
  assert.match(lines.join(''), /could not be stored.*broken/);
  await clock.advance(1000);
  assert.deepEqual(missed, ['silent', 'silent'], 'it looks on');
  await watch.close();
});
