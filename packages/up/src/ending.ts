/** What ends a program that a person or a script started in a terminal. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const POLL_MS = 250;

/**
 * Resolves when this process is to end: on a signal, when its terminal is closed, or when the process that started it is
 * gone. npm does not pass signals on to what it runs.
 */
export function untilToldToEnd(): Promise<'ended'> {
  const { promise, resolve } = Promise.withResolvers<'ended'>();
  const end = () => resolve('ended');
  for (const signal of SIGNALS) process.on(signal, end);
  const parent = process.ppid;
  setInterval(() => process.ppid !== parent && end(), POLL_MS).unref();
  // What is written to a terminal that is closed fails; that is no reason to leave things running.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', end);
  return promise;
}
