import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { HashResult, HashTask } from './hash-task.ts';
import type { HashAnswer } from './hash-worker.ts';
import { ToolError, type ToolErrorCode } from './tool-error.ts';

/** Threads that hash. They start with the first task and do not keep the program running. */
export type HashPool = {
  /** @throws ToolError what the task threw, or `worker_failed` */
  readonly run: <K extends HashTask['kind']>(task: Extract<HashTask, { kind: K }>) => Promise<HashResult[K]>;
  readonly close: () => Promise<void>;
};

type Job = {
  readonly task: HashTask;
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
};

export function openHashPool(threads = availableParallelism()): HashPool {
  const waiting: Job[] = [];
  const idle: Worker[] = [];
  const all = new Set<Worker>();
  const busy = new Map<Worker, Job>();
  let lastId = 0;
  let isClosing = false;

  function next(): void {
    while (waiting.length > 0 && (idle.length > 0 || all.size < threads)) {
      const worker = idle.pop() ?? spawn();
      const job = waiting.shift();
      if (job === undefined) return;
      busy.set(worker, job);
      worker.ref();
      worker.postMessage({ id: ++lastId, task: job.task });
    }
  }

  function spawn(): Worker {
    // What the options of this process say about its input (--eval) does not go for threads.
    const worker = new Worker(new URL('./hash-worker.ts', import.meta.url), { execArgv: [] });
    all.add(worker);
    worker.on('message', (answer: HashAnswer) => {
      const job = busy.get(worker);
      busy.delete(worker);
      // A thread that is being ended keeps the program running until it has ended.
      if (!isClosing) worker.unref();
      idle.push(worker);
      if ('result' in answer) job?.resolve(answer.result as never);
      else job?.reject(new ToolError(answer.code as ToolErrorCode, answer.message));
      next();
    });
    const broken = (why: string) => {
      all.delete(worker);
      const job = busy.get(worker);
      busy.delete(worker);
      job?.reject(new ToolError('worker_failed', `A thread that hashed files broke: ${why}`));
    };
    worker.on('error', (error) => broken(error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => broken(`exit ${code}`));
    return worker;
  }

  return {
    run: (task) =>
      new Promise((resolve, reject) => {
        waiting.push({ task, resolve, reject });
        next();
      }),
    async close() {
      isClosing = true;
      for (const job of waiting.splice(0)) job.reject(new ToolError('worker_failed', 'The program is stopping'));
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}
