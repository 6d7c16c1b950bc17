import { Worker } from 'node:worker_threads';
import { CodedError } from '@keylime/core/coded-error';
import type { AppraisalTask } from './appraisal-worker.ts';

/** A task that a worker did not do: too many wait, it took too long, or the worker broke. Never a verdict. */
export class AppraisalPoolError extends CodedError<'pool_full' | 'task_timeout' | 'task_failed'> {}

/** Judges large evidence, and evidence from strangers, in threads of its own, so that no agent waits for it. */
export type AppraisalPool = {
  /** @throws AppraisalPoolError */
  readonly run: <T>(task: AppraisalTask) => Promise<T>;
  readonly close: () => Promise<void>;
};

export type AppraisalPoolSettings = {
  readonly workers: number;
  /** Tasks that may wait for a worker. */
  readonly maxWaiting: number;
  readonly taskTimeoutMs: number;
};

type Job = {
  readonly task: AppraisalTask;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
};

export function openAppraisalPool({ workers, maxWaiting, taskTimeoutMs }: AppraisalPoolSettings): AppraisalPool {
  const idle: Worker[] = [];
  const waiting: Job[] = [];
  const all = new Set<Worker>();
  let closed = false;
  let lastId = 0;

  function next(): void {
    while (waiting.length > 0 && (idle.length > 0 || all.size < workers)) {
      const job = waiting.shift();
      if (job !== undefined) give(idle.pop() ?? spawn(), job);
    }
  }

  function spawn(): Worker {
    const worker = new Worker(new URL('./appraisal-worker.ts', import.meta.url));
    worker.unref();
    worker.on('exit', () => {
      all.delete(worker);
      const at = idle.indexOf(worker);
      if (at !== -1) idle.splice(at, 1);
    });
    all.add(worker);
    return worker;
  }

  function give(worker: Worker, job: Job): void {
    const id = ++lastId;
    // A worker that computes for too long cannot be told to stop: it is replaced.
    const timer = setTimeout(() => {
      finish();
      all.delete(worker);
      void worker.terminate();
      job.reject(new AppraisalPoolError('task_timeout', `Judging the evidence took longer than ${taskTimeoutMs} ms.`));
      next();
    }, taskTimeoutMs);
    const onMessage = (message: { id: number; result?: unknown; error?: string }) => {
      if (message.id !== id) return;
      finish();
      idle.push(worker);
      if (message.error === undefined) job.resolve(message.result);
      else job.reject(new AppraisalPoolError('task_failed', message.error));
      next();
    };
    const onBroken = (error: unknown) => {
      finish();
      all.delete(worker);
      const reason = error instanceof Error ? error.message : `exit ${error}`;
      job.reject(new AppraisalPoolError('task_failed', `The thread that judged the evidence broke: ${reason}`));
      next();
    };
    const finish = () => {
      clearTimeout(timer);
      worker.off('message', onMessage).off('error', onBroken).off('exit', onBroken);
    };
    worker.on('message', onMessage).on('error', onBroken).on('exit', onBroken);
    worker.postMessage({ id, task: job.task });
  }

  return {
    run: <T>(task: AppraisalTask) =>
      new Promise<T>((resolve, reject) => {
        if (closed || waiting.length >= maxWaiting) {
          reject(new AppraisalPoolError('pool_full', 'Too much evidence is waiting to be judged.'));
          return;
        }
        waiting.push({ task, resolve: resolve as (result: unknown) => void, reject });
        next();
      }),
    async close() {
      closed = true;
      for (const job of waiting.splice(0)) job.reject(new AppraisalPoolError('pool_full', 'The service is stopping.'));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}
