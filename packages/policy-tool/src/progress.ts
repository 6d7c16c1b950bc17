/** Shows how far a long task is. */
export type Progress = {
  /** Names what is done now; `total` is not always known. */
  readonly start: (what: string, total?: number) => void;
  readonly grow: (by: number) => void;
  readonly advance: (by?: number) => void;
  /** Removes the line. */
  readonly stop: () => void;
};

export const noProgress: Progress = { start: () => {}, grow: () => {}, advance: () => {}, stop: () => {} };

type Terminal = { readonly isTTY?: boolean; readonly columns?: number; readonly write: (text: string) => unknown };

const BAR_WIDTH = 24;
const INTERVAL_MS = 100;
/** To the beginning of the line, and delete it. */
const CLEAR = '\r\u001b[K';

/** A bar on a terminal, and nothing where output goes to a file or a pipe. */
export function openProgress(terminal: Terminal, now: () => number = Date.now): Progress {
  if (terminal.isTTY !== true) return noProgress;
  let label = '';
  let total = 0;
  let done = 0;
  let shownAt = 0;
  const show = (isForced: boolean) => {
    if (!isForced && now() - shownAt < INTERVAL_MS) return;
    shownAt = now();
    const share = total > 0 ? Math.min(1, done / total) : 0;
    const filled = Math.round(share * BAR_WIDTH);
    const bar =
      total > 0 ? ` [${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${Math.floor(share * 100)} %` : '';
    const count = total > 0 ? ` ${done}/${total}` : done > 0 ? ` ${done}` : '';
    // A terminal that does not know its width says 0.
    terminal.write(CLEAR + `${label}${bar}${count}`.slice(0, (terminal.columns || 80) - 1));
  };
  return {
    start(what, count = 0) {
      label = what;
      total = count;
      done = 0;
      show(true);
    },
    grow(by) {
      total += by;
      show(false);
    },
    advance(by = 1) {
      done += by;
      show(false);
    },
    stop: () => void terminal.write(CLEAR),
  };
}
