import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { fakeClock } from '@keylime/testing/fake-clock';
import { openScheduler, type Round } from './scheduler.ts';

const id = (text: string): AgentId => {
  const parsed = parseAgentId(text);
  assert.ok(parsed);
  return parsed;
};
const LANES = { maxHealthy: 2, maxUnhealthy: 1 };

/** Rounds that last until the test ends them. */
function manualRounds() {
  const running = new Map<AgentId, (result: Awaited<ReturnType<Round>>) => void>();
  const started: string[] = [];
  const round: Round = (agent) => {
    started.push(agent);
    return new Promise((resolve) => running.set(agent, resolve));
  };
  return { round, started, end: (agent: AgentId, result: Awaited<ReturnType<Round>>) => running.get(agent)?.(result) };
}

test('an agent is asked again when its round says, counted from the end of the round', async () => {
  const clock = fakeClock();
  const times: number[] = [];
  const scheduler = openScheduler(
    async () => {
      times.push(clock.monotonic());
      return { nextDelayMs: 100, healthy: true };
    },
    LANES,
    clock,
    () => {},
  );
  scheduler.schedule(id('a'), 30);
  await clock.advance(350);
  assert.deepEqual(times, [30, 130, 230, 330]);
  await scheduler.close();
});

test('a round that ends an agent is its last', async () => {
  const clock = fakeClock();
  let rounds = 0;
  const scheduler = openScheduler(
    async () => {
      rounds++;
      return { nextDelayMs: undefined, healthy: true };
    },
    LANES,
    clock,
    () => {},
  );
  scheduler.schedule(id('a'), 0);
  await clock.advance(10_000);
  assert.equal(rounds, 1);
  assert.equal(scheduler.size(), 0);
});

test('no more rounds run at once than there is room for, and never two with one agent', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  for (const name of ['a', 'b', 'c']) scheduler.schedule(id(name), 0);
  scheduler.schedule(id('a'), 0);
  await clock.advance(1);
  assert.deepEqual(started, ['a', 'b']);
  end(id('b'), { nextDelayMs: 1000, healthy: true });
  await clock.advance(1);
  assert.deepEqual(started, ['a', 'b', 'c']);
});

test('agents that do not answer fill their own lane and not that of the healthy', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  for (const name of ['dead1', 'dead2']) scheduler.schedule(id(name), 0);
  await clock.advance(1);
  for (const name of ['dead1', 'dead2']) end(id(name), { nextDelayMs: 10, healthy: false });
  await clock.advance(20);
  assert.deepEqual(started, ['dead1', 'dead2', 'dead1'], 'one place for those that do not answer');
  scheduler.schedule(id('good'), 0);
  await clock.advance(1);
  assert.equal(started.at(-1), 'good');
});

test('a wish to ask during a round is met right after it', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  scheduler.schedule(id('a'), 0);
  await clock.advance(1);
  scheduler.schedule(id('a'), 0);
  end(id('a'), { nextDelayMs: 60_000, healthy: true });
  await clock.advance(1);
  assert.deepEqual(started, ['a', 'a']);
});

test('a forgotten agent is not asked again, although its round was under way', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  scheduler.schedule(id('a'), 0);
  await clock.advance(1);
  scheduler.forget(id('a'));
  end(id('a'), { nextDelayMs: 5, healthy: true });
  await clock.advance(1000);
  assert.deepEqual(started, ['a']);
});

test('a round that throws is a fault of ours: it is reported and tried again after a second', async () => {
  const clock = fakeClock();
  const faults: unknown[] = [];
  let rounds = 0;
  const scheduler = openScheduler(
    async () => {
      if (++rounds === 1) throw new Error('no database');
      return { nextDelayMs: undefined, healthy: true };
    },
    LANES,
    clock,
    (_, fault) => faults.push(fault),
  );
  scheduler.schedule(id('a'), 0);
  await clock.advance(999);
  assert.equal(rounds, 1);
  assert.equal(faults.length, 1);
  await clock.advance(2);
  assert.equal(rounds, 2);
});

test('closing waits for the rounds under way and starts no others', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  for (const name of ['a', 'b', 'c']) scheduler.schedule(id(name), 0);
  await clock.advance(1);
  let closed = false;
  const closing = scheduler.close().then(() => {
    closed = true;
  });
  await clock.advance(100);
  assert.equal(closed, false);
  end(id('a'), { nextDelayMs: 0, healthy: true });
  end(id('b'), { nextDelayMs: 0, healthy: true });
  await closing;
  assert.deepEqual(started, ['a', 'b']);
});

test('how late the most overdue agent is can be seen', async () => {
  const clock = fakeClock();
  const { round } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  for (const name of ['a', 'b', 'c']) scheduler.schedule(id(name), 0);
  await clock.advance(70);
  assert.equal(scheduler.lagMs(), 70);
  assert.equal(scheduler.inFlight(), 2);
});

test('rounds that last too long give their places to agents that wait, all of them if need be', async () => {
  const clock = fakeClock();
  const { round, started, end } = manualRounds();
  const scheduler = openScheduler(round, LANES, clock, () => {});
  for (const name of ['dark-1', 'dark-2', 'dark-3', 'well']) scheduler.schedule(id(name), 0);
  await clock.advance(900);
  assert.deepEqual(started, ['dark-1', 'dark-2']);
  await clock.advance(200);
  assert.deepEqual(started, ['dark-1', 'dark-2', 'dark-3', 'well']);
  assert.equal(scheduler.inFlight(), 4);
  end(id('well'), { nextDelayMs: 50, healthy: true });
  await clock.advance(100);
  assert.deepEqual(started.slice(4), ['well']);
  for (const name of ['dark-1', 'dark-2', 'dark-3']) end(id(name), { nextDelayMs: 0, healthy: false });
  await clock.advance(10);
  assert.equal(started.length, 6, 'those that did not answer are asked one after the other');
  const closing = scheduler.close();
  for (const name of started) end(id(name), { nextDelayMs: undefined, healthy: true });
  await closing;
});
