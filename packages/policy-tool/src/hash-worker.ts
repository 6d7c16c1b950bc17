import { parentPort } from 'node:worker_threads';
import { type HashTask, runHashTask } from './hash-task.ts';
import { ToolError } from './tool-error.ts';

/** What a thread of the pool answers. */
export type HashAnswer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly code: string; readonly message: string };

parentPort?.on('message', async ({ id, task }: { id: number; task: HashTask }) => {
  try {
    parentPort?.postMessage({ id, result: await runHashTask(task) } satisfies HashAnswer);
  } catch (error) {
    const code = error instanceof ToolError ? error.code : 'worker_failed';
    const message = error instanceof ToolError ? error.message : error instanceof Error ? error.stack : String(error);
    parentPort?.postMessage({ id, code, message: message ?? '' } satisfies HashAnswer);
  }
});
