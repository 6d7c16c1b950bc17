import { parentPort } from 'node:worker_threads';
import { type ExtendSteps, runSideBySide } from '@keylime/ima/side-by-side';

/** What a pool sends to a thread: tasks to be done together. */
export type TaskGroup<Task> = { readonly id: number; readonly tasks: readonly Task[] };

/** What the thread sends for each of them, or once that it has started. */
export type TaskMessage =
  | { readonly id: number; readonly number: number; readonly result?: unknown; readonly error?: string }
  | 'started';

/**
 * In a thread of a pool: answers every task with what `run` makes of it, or with the message of what it throws. Tasks that come
 * together are done side by side.
 */
export function answerTasks<Task>(run: (task: Task) => ExtendSteps<unknown>): void {
  const send = (message: TaskMessage) => parentPort?.postMessage(message);
  parentPort?.on('message', ({ id, tasks }: TaskGroup<Task>) =>
    runSideBySide(tasks.map(run), (number, ended) => {
      if (!('error' in ended)) send({ id, number, result: ended.value });
      else send({ id, number, error: ended.error instanceof Error ? ended.error.message : String(ended.error) });
    }),
  );
  send('started');
}
