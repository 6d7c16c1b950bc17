import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type FleetMember, type FleetOptions, startSimulatedFleet } from '@keylime/testing/simulated-fleet';

/** A simulated fleet in a process of its own, so that its work is not the verifier's. */
export type FleetProcess = {
  readonly members: readonly FleetMember[];
  readonly stop: () => Promise<void>;
};

/** Starts this file as a process and waits for its agents. */
export async function startFleetProcess(options: FleetOptions): Promise<FleetProcess> {
  const child = fork(fileURLToPath(import.meta.url), [], { execArgv: ['--max-old-space-size=8192'] });
  child.send(options);
  const members = await answerOf<readonly FleetMember[]>(child);
  return {
    members,
    stop: async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}

/** The next message of a child; rejects if the child ends without one. */
export async function answerOf<T>(child: ChildProcess): Promise<T> {
  const end = new AbortController();
  try {
    return await Promise.race([
      once(child, 'message', { signal: end.signal }).then(([message]) => message as T),
      once(child, 'exit', { signal: end.signal }).then(([code]) => {
        throw new Error(`The process ended with ${code} without an answer.`);
      }),
    ]);
  } finally {
    end.abort();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.once('message', async (options: FleetOptions) => {
    const fleet = await startSimulatedFleet(options);
    process.send?.(fleet.members);
  });
  process.once('disconnect', () => process.exit(0));
}
