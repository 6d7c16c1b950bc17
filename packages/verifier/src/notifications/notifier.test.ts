import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeClock } from '@keylime/testing/fake-clock';
import { type Deliver, openNotifier, UndeliverableError } from './notifier.ts';
import type { Delivery, NewDelivery, Outbox } from './outbox.ts';

const settings = { concurrency: 4, firstWaitMs: 1000, maxWaitMs: 60_000, giveUpAfterAttempts: 60 };
const silent = { delivered: () => {}, failed: () => {}, fault: () => {} };

/** An outbox in memory, with the rules of the real one, whose contract is tested on its databases. */
function memoryOutbox() {
  type Row = Delivery & { nextAttemptAtMs: number; dead: boolean; lastError?: string };
  let rows: Row[] = [];
  const heads = () => {
    const alive = rows.filter(({ dead }) => !dead);
    return alive.filter((row) => alive.find(({ agentId }) => agentId === row.agentId) === row);
  };
  const outbox: Outbox = {
    due: async (nowMs, limit, underWay) =>
      heads()
        .filter((row) => row.nextAttemptAtMs <= nowMs && !underWay.includes(row.sequence))
        .slice(0, limit),
    nextDueMs: async (underWay) =>
      heads()
        .filter(({ sequence }) => !underWay.includes(sequence))
        .map((row) => row.nextAttemptAtMs)
        .sort((a, b) => a - b)[0],
    delivered: async (sequence) => {
      rows = rows.filter((row) => row.sequence !== sequence);
    },
    failed: async (sequence, error, next) => {
      rows = rows.map((row) =>
        row.sequence !== sequence
          ? row
          : {
              ...row,
              attempts: row.attempts + 1,
              lastError: error,
              ...(next === undefined ? { dead: true } : { nextAttemptAtMs: next }),
            },
      );
    },
  };
  return {
    outbox,
    put: (one: NewDelivery) =>
      rows.push({
        ...one,
        target: undefined,
        spreadUpTo: undefined,
        sequence: rows.length + 1,
        attempts: 0,
        nextAttemptAtMs: one.createdAtMs,
        dead: false,
      }),
    rows: () => rows,
  };
}

const delivery = (agentId: string, body: string, createdAtMs: number): NewDelivery => ({
  notificationId: `${agentId}-${body}`,
  agentId,
  channel: 'webhook',
  body,
  createdAtMs,
});

/** Takes bodies from the moment that `receiver.up` is set. */
function receiverThatIsDown() {
  const receiver = { up: false };
  const taken: string[] = [];
  const deliver: Deliver = async ({ body }) => {
    if (!receiver.up) throw new Error('connection refused');
    taken.push(body);
  };
  return { receiver, deliver, taken };
}

test('a receiver that is down for ten minutes gets everything once it is back, in order', async () => {
  const clock = fakeClock();
  const { outbox, put, rows } = memoryOutbox();
  const { receiver, deliver, taken } = receiverThatIsDown();
  const notifier = openNotifier(outbox, deliver, settings, clock, silent);
  for (const body of ['first', 'second', 'third']) put(delivery('a', body, clock.now()));
  notifier.wake();
  await clock.advance(600_000);
  assert.deepEqual(taken, []);
  assert.equal(rows().length, 3);
  receiver.up = true;
  await clock.advance(61_000);
  assert.deepEqual(taken, ['first', 'second', 'third']);
  assert.equal(rows().length, 0);
  await notifier.close();
});

test('one agent that cannot be notified about does not hold up another', async () => {
  const clock = fakeClock();
  const { outbox, put } = memoryOutbox();
  const taken: string[] = [];
  const deliver: Deliver = async ({ agentId }) => {
    if (agentId === 'a') throw new Error('the receiver dislikes a');
    taken.push(agentId);
  };
  const notifier = openNotifier(outbox, deliver, settings, clock, silent);
  put(delivery('a', 'x', clock.now()));
  put(delivery('b', 'y', clock.now()));
  notifier.wake();
  await clock.advance(10);
  assert.deepEqual(taken, ['b']);
  await notifier.close();
});

test('[MUST] a receiver that never answers holds up nobody else, and its own later notifications wait behind', async () => {
  const clock = fakeClock();
  const { outbox, put } = memoryOutbox();
  const begun: string[] = [];
  let answer: () => void = () => {};
  const deliver: Deliver = async ({ agentId, body }) => {
    begun.push(body);
    if (agentId === 'slow') await new Promise<void>((resolve) => (answer = resolve));
  };
  const notifier = openNotifier(outbox, deliver, settings, clock, silent);
  put(delivery('slow', 's1', clock.now()));
  put(delivery('slow', 's2', clock.now()));
  notifier.wake();
  await clock.advance(10);
  put(delivery('quick', 'q1', clock.now()));
  notifier.wake();
  await clock.advance(10);
  put(delivery('quick', 'q2', clock.now()));
  notifier.wake();
  await clock.advance(60_000);
  assert.deepEqual(begun, ['s1', 'q1', 'q2']);
  answer();
  await clock.advance(10);
  assert.deepEqual(begun, ['s1', 'q1', 'q2', 's2']);
  answer();
  await notifier.close();
});

test('a clock that is set forward gives nothing up', async () => {
  const clock = fakeClock();
  const { outbox, put, rows } = memoryOutbox();
  const { receiver, deliver, taken } = receiverThatIsDown();
  const notifier = openNotifier(outbox, deliver, settings, clock, silent);
  put(delivery('a', 'x', clock.now() - 400 * 86_400_000));
  notifier.wake();
  await clock.advance(10_000);
  assert.equal(rows()[0]?.dead, false);
  receiver.up = true;
  await clock.advance(60_000);
  assert.deepEqual(taken, ['x']);
  await notifier.close();
});

test('[MUST] while the outbox cannot be written nothing is lost, and the receiver is told the same ever more rarely', async () => {
  const clock = fakeClock();
  const { outbox, put, rows } = memoryOutbox();
  let isFull = true;
  let told = 0;
  const full: Outbox = {
    ...outbox,
    delivered: async (sequence) => {
      if (isFull) throw new Error('database or disk is full');
      return outbox.delivered(sequence);
    },
  };
  const notifier = openNotifier(full, async () => void told++, settings, clock, silent);
  put(delivery('a', 'x', clock.now()));
  notifier.wake();
  await clock.advance(600_000);
  assert.equal(rows().length, 1);
  assert.ok(told > 5 && told < 20, `${told} times`);
  isFull = false;
  await clock.advance(60_000);
  assert.equal(rows().length, 0);
  await notifier.close();
});

test('what no attempt can mend is given up at once', async () => {
  const clock = fakeClock();
  const { outbox, put, rows } = memoryOutbox();
  let attempts = 0;
  const deliver: Deliver = async () => {
    attempts++;
    throw new UndeliverableError('nobody there has an ear for it');
  };
  const notifier = openNotifier(outbox, deliver, settings, clock, silent);
  put(delivery('a', 'x', clock.now()));
  notifier.wake();
  await clock.advance(600_000);
  assert.deepEqual([attempts, rows()[0]?.dead], [1, true]);
  await notifier.close();
});

test('what cannot be delivered for too long is given up, kept and reported', async () => {
  const clock = fakeClock();
  const { outbox, put, rows } = memoryOutbox();
  const givenUp: string[] = [];
  const notifier = openNotifier(
    outbox,
    async () => {
      throw new Error('no');
    },
    settings,
    clock,
    { ...silent, failed: ({ body }, _, next) => next === undefined && givenUp.push(body) },
  );
  put(delivery('a', 'x', clock.now()));
  notifier.wake();
  await clock.advance(4_000_000);
  assert.deepEqual(givenUp, ['x']);
  assert.equal(rows()[0]?.dead, true);
  assert.equal(clock.waiting(), 0);
  await notifier.close();
});

test('an outbox that cannot be read is tried again, without a busy loop', async () => {
  const clock = fakeClock();
  const { outbox, put } = memoryOutbox();
  let reads = 0;
  let faults = 0;
  const taken: string[] = [];
  const flaky: Outbox = {
    ...outbox,
    due: async (now, limit, underWay) => {
      if (++reads < 3) throw new Error('no database');
      return outbox.due(now, limit, underWay);
    },
  };
  const notifier = openNotifier(flaky, async ({ body }) => void taken.push(body), settings, clock, {
    ...silent,
    fault: () => {
      faults++;
    },
  });
  put(delivery('a', 'x', clock.now()));
  notifier.wake();
  await clock.advance(500);
  assert.equal(reads, 1);
  await clock.advance(5000);
  assert.equal(faults, 2);
  assert.deepEqual(taken, ['x']);
  await notifier.close();
});
