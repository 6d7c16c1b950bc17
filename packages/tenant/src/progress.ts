/** A stream that may be a terminal. */
export type Terminal = { readonly isTTY?: boolean | undefined; readonly write: (text: string) => unknown };

export type Progress = {
  /** Shows what is being done now in place of what was; nothing where nobody watches. */
  readonly show: (step: string) => void;
  /** Takes the shown line away, before other lines are written to the same terminal and at the end. */
  readonly clear: () => void;
};

const ERASE_LINE = '\r\x1b[2K';
const WIDTH = 79;

/** One line on `terminal` that says what is going on; silent if it is a file or a pipe, so that no script ever meets it. */
export function openProgress(terminal: Terminal): Progress {
  if (terminal.isTTY !== true) return { show: () => {}, clear: () => {} };
  let isShown = false;
  return {
    show(step) {
      const line = `… ${step.replace(/\p{Cc}/gu, ' ')}`;
      terminal.write(`${ERASE_LINE}${line.length > WIDTH ? `${line.slice(0, WIDTH - 1)}…` : line}`);
      isShown = true;
    },
    clear() {
      if (isShown) terminal.write(ERASE_LINE);
      isShown = false;
    },
  };
}
