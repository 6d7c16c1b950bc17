/** SbatLevel of shim: the least generation of each component that may start; of `sbat` itself, the date of the list. */
export type SbatLevel = ReadonlyMap<string, number>;

/**
 * Parses a SbatLevel: lines `component,generation`, the first `sbat,1,YYYYMMDDNN`; `undefined` if it is not one. Source:
 * shim, SBAT.md.
 */
export function parseSbatLevel(text: string): SbatLevel | undefined {
  const level = new Map<string, number>();
  const lines = text.replace(/\n$/, '').split('\n');
  for (const [i, line] of lines.entries()) {
    const [, component = '', generation = '', date] = /^([\w.-]+),(\d{1,9})(?:,(\d{10}))?$/.exec(line) ?? [];
    if ((i === 0) !== (component === 'sbat' && date !== undefined) || component === '') return undefined;
    if (level.has(component)) return undefined;
    level.set(component, Number(date ?? generation));
  }
  return level;
}

/** The components that `level` demands less of than `least` does. */
export const belowSbatLevel = (level: SbatLevel, least: SbatLevel): readonly string[] =>
  [...least]
    .filter(([component, generation]) => (level.get(component) ?? 0) < generation)
    .map(([component]) => component);
