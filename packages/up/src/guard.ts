import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';

/** Ends the programs of a trial, and removes folders, if this process cannot do it any more: it was killed, or crashed. */
export type Guard = {
  /** A folder that no trial needs any more. */
  readonly removes: (folder: string) => void;
  /** There is nothing left to guard. */
  readonly close: () => Promise<void>;
};

/** In the environment of all programs of a trial, so that they are found whoever started them. */
const MARK = 'UP_TRIAL';

/**
 * Reads folders, a line each, until the other end of the pipe is closed, which the kernel does with the last breath of a
 * process. Then everybody with the mark is told to end, and made to after some seconds.
 */
const SCRIPT = `
set -f
while IFS= read -r folder; do folders="$folders
$folder"; done
marked() { set +f; grep -ls "${MARK}=$1" /proc/[0-9]*/environ | cut -d / -f 3; set -f; }
kill $(marked "$1") 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(marked "$1")" ] && break; sleep 0.5; done
kill -9 $(marked "$1") 2>/dev/null
IFS='
'
for folder in $folders; do umount "$folder/secure" 2>/dev/null; rm -rf "$folder"; done
`;

/** Programs that are started from now on are guarded. Not a child of the terminal: what ends a trial must not end its guard. */
export function openGuard(): Guard {
  const mark = randomUUID();
  const { [MARK]: _, ...unmarked } = process.env;
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'guard', mark], {
    detached: true,
    env: unmarked,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.unref();
  process.env[MARK] = mark;
  return {
    removes: (folder) => void child.stdin.write(`${folder}\n`),
    async close() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}
