/** Runs tasks one at a time, in the order in which they were given; a task that fails does not stop the next. */
export type Exclusive = <T>(task: () => Promise<T>) => Promise<T>;

export function exclusive(): Exclusive {
  let last: Promise<unknown> = Promise.resolve();
  return (task) => {
    const run = last.then(task, task);
    last = run.catch(() => undefined);
    return run;
  };
}
