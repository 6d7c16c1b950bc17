import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 2;

/** Polls until `condition` gives something that counts; rejects if `broken` resolves or the time is over. */
export async function until<T>(
  condition: () => Promise<T | false | undefined>,
  what: string,
  {
    broken,
    timeoutMs = 60_000,
    pollMs = POLL_MS,
  }: { readonly broken: Promise<Error>; readonly timeoutMs?: number; readonly pollMs?: number },
): Promise<T> {
  let fault: Error | undefined;
  void broken.then((error) => {
    fault = error;
  });
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await condition();
    if (found !== undefined && found !== false) return found;
    if (fault !== undefined) throw fault;
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s in vain for ${what}.`);
    await sleep(pollMs);
  }
}
