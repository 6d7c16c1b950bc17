import { Worker } from 'node:worker_threads';
import { CodedError } from '@keylime/core/coded-error';
import type { TaskGroup, TaskMessage } from './thread-tasks.ts';

/** A task that no thread did: too many wait, it took too long, or the thread broke. Never a verdict. */
export class ThreadPoolError extends CodedError<'pool_full' | 'task_timeout' | 'task_failed'> {}

/** Does tasks in threads of its own, so that nobody waits for them but who asked. */
export type ThreadPool<Task> = {
  /** What the thread answers to the task. @throws ThreadPoolError */
  readonly run: <T>(task: Task) => Promise<T>;
  readonly close: () => Promise<void>;
};

export type ThreadPoolSettings<Task> = {
  /** The module that does them: `answerTasks` of thread-tasks.ts in a thread. */
  readonly script: URL;
  /** For the module, as its `workerData`. */
  readonly data?: unknown;
  readonly workers: number;
  /** Tasks that may wait for a worker. */
  readonly maxWaiting: number;
  /** Time for one task; that which a thread takes to start does not count. */
  readonly taskTimeoutMs: number;
  /** Most tasks that one thread does side by side where more wait than there are threads; absent: 1. */
  readonly sideBySide?: number;
  /** Which tasks are too large for that. */
  readonly isAlone?: (task: Task) => boolean;
};

type Job<Task> = {
  readonly task: Task;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  /** It is too large to be done beside others, or was, and the thread did not come to an end. */
  readonly isAlone: boolean;
};

const START_TIMEOUT_MS = 60_000;

/** Threads are started when there is something to do for them. */
export function openThreadPool<Task>(settings: ThreadPoolSettings<Task>): ThreadPool<Task> {
  const { script, data, workers, maxWaiting, taskTimeoutMs, sideBySide = 1, isAlone = () => false } = settings;
  const idle: Worker[] = [];
  const waiting: Job<Task>[] = [];
  const all = new Set<Worker>();
  const started = new WeakSet<Worker>();
  let closed = false;
  let lastId = 0;

  function next(): void {
    for (;;) {
      const free = idle.length + Math.max(0, workers - all.size);
      if (waiting.length === 0 || free === 0) return;
      give(idle.pop() ?? spawn(), nextGroup(free));
    }
  }

  /** Those that waited longest, an equal share for each thread that is free. */
  function nextGroup(free: number): readonly Job<Task>[] {
    const most = Math.min(sideBySide, Math.ceil(waiting.length / free));
    const alone = waiting.findIndex((job) => job.isAlone);
    return waiting.splice(0, alone === -1 ? most : Math.max(1, Math.min(most, alone)));
  }

  function spawn(): Worker {
    const worker = new Worker(script, { workerData: data });
    worker.unref();
    worker.on('exit', () => retire(worker));
    // [MUST] Also between two tasks: what one left behind may throw later, and nobody else would hear of it but the process.
    worker.on('error', () => retire(worker));
    all.add(worker);
    return worker;
  }

  /** The worker gets no further task. */
  function retire(worker: Worker): void {
    all.delete(worker);
    const at = idle.indexOf(worker);
    if (at !== -1) idle.splice(at, 1);
  }

  function give(worker: Worker, jobs: readonly Job<Task>[]): void {
    const id = ++lastId;
    const unanswered = new Map(jobs.entries());
    let until = Number.POSITIVE_INFINITY;
    /** Time for each task that has no answer yet, but never longer than before: who hangs beside others gains nothing by it. */
    const limitTasks = () => {
      clearTimeout(timer);
      until = Math.min(until, performance.now() + taskTimeoutMs * unanswered.size);
      timer = limit(until - performance.now(), taskTimeoutMs);
    };
    // A worker that computes for too long cannot be told to stop: it is replaced.
    const limit = (ms: number, toldMs: number) =>
      setTimeout(() => {
        // This thread may have been busy, and the answer be there: it is read before the next step.
        setImmediate(() => {
          if (isFinished) return;
          void worker.terminate();
          giveUp(new ThreadPoolError('task_timeout', `It took longer than ${toldMs} ms.`));
        });
      }, ms);
    let isFinished = false;
    let timer: NodeJS.Timeout | undefined;
    if (started.has(worker)) limitTasks();
    else timer = limit(START_TIMEOUT_MS, START_TIMEOUT_MS);
    const onMessage = (message: TaskMessage) => {
      if (message === 'started') {
        started.add(worker);
        limitTasks();
        return;
      }
      const job = message.id === id ? unanswered.get(message.number) : undefined;
      if (job === undefined) return;
      unanswered.delete(message.number);
      if (message.error === undefined) job.resolve(message.result);
      else job.reject(new ThreadPoolError('task_failed', message.error));
      if (unanswered.size > 0) {
        limitTasks();
        return;
      }
      finish();
      idle.push(worker);
      next();
    };
    const onBroken = (error: unknown) => {
      const reason = error instanceof Error ? error.message : `exit ${error}`;
      giveUp(new ThreadPoolError('task_failed', `The thread broke: ${reason}`));
    };
    /** [MUST] Nobody pays for another's task: of several, each is done once more on its own. */
    const giveUp = (error: ThreadPoolError) => {
      finish();
      retire(worker);
      const left = [...unanswered.values()];
      if (jobs.length === 1 || closed) for (const job of left) job.reject(error);
      else waiting.unshift(...left.map((job) => ({ ...job, isAlone: true })));
      next();
    };
    const finish = () => {
      isFinished = true;
      clearTimeout(timer);
      worker.off('message', onMessage).off('error', onBroken).off('exit', onBroken);
    };
    worker.on('message', onMessage).on('error', onBroken).on('exit', onBroken);
    worker.postMessage({ id, tasks: jobs.map(({ task }) => task) } satisfies TaskGroup<Task>);
  }

  return {
    run: <T>(task: Task) =>
      new Promise<T>((resolve, reject) => {
        if (closed || waiting.length >= maxWaiting) {
          reject(new ThreadPoolError('pool_full', 'Too many tasks wait for a thread.'));
          return;
        }
        waiting.push({ task, resolve: resolve as (result: unknown) => void, reject, isAlone: isAlone(task) });
        next();
      }),
    async close() {
      closed = true;
      for (const job of waiting.splice(0)) job.reject(new ThreadPoolError('pool_full', 'The service is stopping.'));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}
