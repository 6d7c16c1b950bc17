import { closeSync, openSync, readSync } from 'node:fs';

/** Boot event logs are some 100 KB; more than this is none. */
const MAX_BYTES = 32 * 1024 * 1024;

export type BootLog = {
  /** The whole binary event log, or `undefined` if it cannot be opened. @throws an `Error` with a system `code`. */
  readonly read: () => Buffer | undefined;
  readonly close: () => void;
};

/**
 * The boot event log at `path` (`binary_bios_measurements`), opened at once so that it stays readable after privileges are
 * dropped. `unreadable` is told why it cannot be opened, once.
 */
export function openBootLog(path: string, unreadable: (cause: unknown) => void): BootLog {
  let kept: number | undefined;
  try {
    kept = openSync(path, 'r');
  } catch (cause) {
    unreadable(cause);
  }
  return {
    read: () => {
      const fresh = kept === undefined ? openIfPossible(path) : undefined;
      kept ??= fresh;
      return kept === undefined ? undefined : readFromStart(kept);
    },
    close: () => {
      if (kept !== undefined) closeSync(kept);
      kept = undefined;
    },
  };
}

function openIfPossible(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch {
    return undefined;
  }
}

/** Kernel files have no size: the end is where nothing more comes. */
function readFromStart(fd: number): Buffer {
  const parts: Buffer[] = [];
  let size = 0;
  for (;;) {
    const part = Buffer.allocUnsafe(64 * 1024);
    const count = readSync(fd, part, 0, part.length, size);
    if (count === 0) return Buffer.concat(parts);
    parts.push(part.subarray(0, count));
    size += count;
    if (size > MAX_BYTES) throw new RangeError(`the boot event log is larger than ${MAX_BYTES} bytes`);
  }
}
