import { styleText } from 'node:util';
import { printable } from './printable.ts';

export type Style = 'plain' | 'good' | 'doubtful' | 'bad';

/** Colours text by what it means, or leaves it. Text is made printable first. */
export type Paint = (style: Style, text: string) => string;

export type Cell = string | { readonly text: string; readonly style: Style };

const COLOURS = { good: 'green', doubtful: 'yellow', bad: 'red' } as const;

type Terminal = { readonly isTTY?: boolean };

/** Colours on a terminal only, and not with NO_COLOR (no-color.org) or on a dumb one. */
export function paintFor({ isTTY }: Terminal, env: { readonly [name: string]: string | undefined }): Paint {
  const coloured = isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  return (style, text) => {
    const safe = printable(text);
    return coloured && style !== 'plain' ? styleText(COLOURS[style], safe, { validateStream: false }) : safe;
  };
}

/** Rows with columns of one width each but for the last. */
export function tableLines(rows: readonly (readonly Cell[])[], paint: Paint): readonly string[] {
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'string' ? { text: cell, style: 'plain' as const } : cell)),
  );
  const widths: number[] = [];
  for (const row of cells) {
    for (const [i, { text }] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, printable(text).length);
  }
  return cells.map((row) =>
    row
      .map(({ text, style }, i) => {
        const painted = paint(style, text);
        if (i === row.length - 1) return painted;
        return painted + ' '.repeat(Math.max(0, (widths[i] ?? 0) - printable(text).length));
      })
      .join('  '),
  );
}
