import { Worker } from 'node:worker_threads';
import { CodedError } from '@keylime/core/coded-error';

/** A task that no thread did: too many wait, it took too long, or the thread broke. Never a verdict. */
export class ThreadPoolError extends CodedError<'pool_full' | 'task_timeout' | 'task_failed'> {}

/** Does tasks in threads of its own, so that nobody waits for them but who asked. */
export type ThreadPool<Task> = {
  /** What the thread answers to the task. @throws ThreadPoolError */
  readonly run: <T>(task: Task) => Promise<T>;
  readonly close: () => Promise<void>;
};

export type ThreadPoolSettings = {
  /** The module that does them: `answerTasks` of thread-tasks.ts in a thread. */
  readonly script: URL;
  /** For the module, as its `workerData`. */
  readonly data?: unknown;
  readonly workers: number;
  /** Tasks that may wait for a worker. */
  readonly maxWaiting: number;
  /** Time for one task; that which a thread takes to start does not count. */
  readonly taskTimeoutMs: number;
};

type Job<Task> = {
  readonly task: Task;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
};

const START_TIMEOUT_MS = 60_000;

/** Threads are started when there is something to do for them. */
export function openThreadPool<Task>(settings: ThreadPoolSettings): ThreadPool<Task> {
  const { script, data, workers, maxWaiting, taskTimeoutMs } = settings;
  const idle: Worker[] = [];
  const waiting: Job<Task>[] = [];
  const all = new Set<Worker>();
  const started = new WeakSet<Worker>();
  let closed = false;
  let lastId = 0;

  function next(): void {
    while (waiting.length > 0 && (idle.length > 0 || all.size < workers)) {
      const job = waiting.shift();
      if (job !== undefined) give(idle.pop() ?? spawn(), job);
    }
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

  function give(worker: Worker, job: Job<Task>): void {
    const id = ++lastId;
    // A worker that computes for too long cannot be told to stop: it is replaced.
    const limit = (ms: number) =>
      setTimeout(() => {
        // This thread may have been busy, and the answer be there: it is read before the next step.
        setImmediate(() => {
          if (isFinished) return;
          finish();
          retire(worker);
          void worker.terminate();
          job.reject(new ThreadPoolError('task_timeout', `It took longer than ${ms} ms.`));
          next();
        });
      }, ms);
    let isFinished = false;
    let timer = limit(started.has(worker) ? taskTimeoutMs : START_TIMEOUT_MS);
    const onMessage = (message: { id: number; result?: unknown; error?: string } | 'started') => {
      if (message === 'started') {
        started.add(worker);
        clearTimeout(timer);
        timer = limit(taskTimeoutMs);
        return;
      }
      if (message.id !== id) return;
      finish();
      idle.push(worker);
      if (message.error === undefined) job.resolve(message.result);
      else job.reject(new ThreadPoolError('task_failed', message.error));
      next();
    };
    const onBroken = (error: unknown) => {
      finish();
      retire(worker);
      const reason = error instanceof Error ? error.message : `exit ${error}`;
      job.reject(new ThreadPoolError('task_failed', `The thread broke: ${reason}`));
      next();
    };
    const finish = () => {
      isFinished = true;
      clearTimeout(timer);
      worker.off('message', onMessage).off('error', onBroken).off('exit', onBroken);
    };
    worker.on('message', onMessage).on('error', onBroken).on('exit', onBroken);
    worker.postMessage({ id, task: job.task });
  }

  return {
    run: <T>(task: Task) =>
      new Promise<T>((resolve, reject) => {
        if (closed || waiting.length >= maxWaiting) {
          reject(new ThreadPoolError('pool_full', 'Too many tasks wait for a thread.'));
          return;
        }
        waiting.push({ task, resolve: resolve as (result: unknown) => void, reject });
        next();
      }),
    async close() {
      closed = true;
      for (const job of waiting.splice(0)) job.reject(new ThreadPoolError('pool_full', 'The service is stopping.'));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}
