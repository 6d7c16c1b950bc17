import { answerTasks } from './thread-tasks.ts';

/** A task that stays busy for `busyMs`, and then answers, throws, or ends its thread. */
export type FixtureTask = {
  readonly busyMs: number;
  readonly then: 'answer' | 'throw' | 'exit';
  readonly name: string;
};

/** What a task is answered: those that the thread was given together with it, in the order in which they began. */
const begun: string[] = [];

answerTasks<FixtureTask>(function* ({ busyMs, then, name }) {
  begun.push(name);
  yield;
  for (const until = performance.now() + busyMs; performance.now() < until; );
  if (then === 'throw') throw new Error(`${name} is broken`);
  if (then === 'exit') process.exit(3);
  return begun.splice(0);
});
