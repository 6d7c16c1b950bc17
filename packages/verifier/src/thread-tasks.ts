import { parentPort } from 'node:worker_threads';

/** In a thread of a pool: answers every task with what `run` makes of it, or with the message of what it throws. */
export function answerTasks<Task>(run: (task: Task) => unknown): void {
  parentPort?.on('message', ({ id, task }: { id: number; task: Task }) => {
    try {
      parentPort?.postMessage({ id, result: run(task) });
    } catch (error) {
      parentPort?.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
  parentPort?.postMessage('started');
}
