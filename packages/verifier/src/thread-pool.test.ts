import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { FixtureTask } from './thread-pool.fixture.ts';
import { openThreadPool, type ThreadPoolSettings } from './thread-pool.ts';

/** A pool of one thread, which has started. */
async function open(t: TestContext, settings: Partial<ThreadPoolSettings<FixtureTask>> = {}) {
  const pool = openThreadPool<FixtureTask>({
    script: new URL('./thread-pool.fixture.ts', import.meta.url),
    workers: 1,
    maxWaiting: 8,
    taskTimeoutMs: 400,
    ...settings,
  });
  t.after(() => pool.close());
  const run = (name: string, busyMs = 0, then: FixtureTask['then'] = 'answer') =>
    pool.run<readonly string[]>({ name, busyMs, then });
  await run('first');
  return { run, close: () => pool.close() };
}

/** What became of each: its answer, or the code of its error. */
const ends = async (runs: readonly Promise<readonly string[]>[]) =>
  (await Promise.allSettled(runs)).map((end) => (end.status === 'fulfilled' ? 'answered' : end.reason.code));

test('an answer that came in time counts, although nobody looked in time', async (t) => {
  const { run } = await open(t);
  // From here the loop comes to its timers before it comes to messages.
  await setImmediate();
  const answer = run('late');
  const until = performance.now() + 800;
  while (performance.now() < until);
  assert.deepEqual(await answer, ['late']);
});

test('tasks that wait are done side by side, as many as are allowed, and those that are too large alone', async (t) => {
  const { run } = await open(t, { sideBySide: 3, isAlone: ({ name }) => name === 'large' });
  const names = ['now', 'a', 'b', 'c', 'd', 'large', 'e'];
  const answers = await Promise.all(names.map((name) => run(name)));
  const together = answers.filter((answer) => answer.length > 0);
  assert.deepEqual(together, [['now'], ['a', 'b', 'c'], ['d'], ['large'], ['e']]);
});

test('without more to do than there are threads each has one to itself', async (t) => {
  const { run } = await open(t, { sideBySide: 4, workers: 2 });
  assert.deepEqual(await Promise.all([run('a', 50), run('b', 50)]), [['a'], ['b']]);
});

test('a task that throws leaves those beside it alone', async (t) => {
  const { run } = await open(t, { sideBySide: 4 });
  const runs = [run('now'), run('a'), run('b', 0, 'throw'), run('c')];
  assert.deepEqual(await ends(runs), ['answered', 'answered', 'task_failed', 'answered']);
  await assert.rejects(run('d', 0, 'throw'), { code: 'task_failed', message: 'd is broken' });
});

test('[MUST] nobody pays for a task beside it that takes too long, or that ends the thread', async (t) => {
  for (const [busyMs, then, code] of [
    [20_000, 'answer', 'task_timeout'],
    [0, 'exit', 'task_failed'],
  ] as const) {
    const { run } = await open(t, { sideBySide: 4 });
    const runs = [run('now'), run('a'), run('evil', busyMs, then), run('b'), run('c')];
    assert.deepEqual(await ends(runs), ['answered', 'answered', code, 'answered', 'answered'], then);
    assert.deepEqual(await run('later'), ['later']);
  }
});

test('a task that never ends holds a thread hardly longer beside others than alone', async (t) => {
  const { run } = await open(t, { sideBySide: 4, taskTimeoutMs: 1000 });
  const start = performance.now();
  const runs = [run('now'), run('a'), run('b'), run('c'), run('evil', 60_000)];
  assert.deepEqual(await ends(runs), ['answered', 'answered', 'answered', 'answered', 'task_timeout']);
  // Once beside them and once alone, a second each: not four seconds beside them.
  const tookMs = performance.now() - start;
  assert.ok(tookMs < 4000, `${tookMs} ms`);
});

test('with the pool closed no task stays unanswered, and none is begun again', async (t) => {
  const { run, close } = await open(t, { sideBySide: 4 });
  const runs = [run('now', 100), run('a', 5000), run('b', 5000)];
  await runs[0];
  const [ended] = await Promise.all([ends(runs), close()]);
  assert.deepEqual(ended, ['answered', 'task_failed', 'task_failed']);
  await assert.rejects(run('later'), { code: 'pool_full' });
});
