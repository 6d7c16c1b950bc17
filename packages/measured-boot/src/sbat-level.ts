/** SbatLevel of shim: the least generation of each component that may start; of `sbat` itself, the date of the list. */
export type SbatLevel = ReadonlyMap<string, number>;

/**
 * Parses a SbatLevel: lines `component,generation`, the first `sbat,1,YYYYMMDDNN`; `undefined` if it is not one. Source:
 * shim, SBAT.md.
 */
export function parseSbatLevel(text: string): SbatLevel | undefined {
  const [head = '', ...lines] = text.replace(/\n$/, '').split('\n');
  const [, date] = /^sbat,\d{1,9},(\d{10})$/.exec(head) ?? [];
  if (date === undefined) return undefined;
  const level = new Map([['sbat', Number(date)]]);
  for (const line of lines) {
    const [, component, generation] = /^([\w.-]+),(\d{1,9})$/.exec(line) ?? [];
    if (component === undefined || level.has(component)) return undefined;
    level.set(component, Number(generation));
  }
  return level;
}

/** The components that `level` demands less of than `least` does. */
export const belowSbatLevel = (level: SbatLevel, least: SbatLevel): readonly string[] =>
  [...least]
    .filter(([component, generation]) => (level.get(component) ?? 0) < generation)
    .map(([component]) => component);

/** The highest level that both machines have. */
export const lowerSbatLevel = (first: SbatLevel, second: SbatLevel): SbatLevel =>
  new Map(
    [...first].flatMap(([component, generation]) => {
      const other = second.get(component);
      return other === undefined ? [] : [[component, Math.min(generation, other)]];
    }),
  );

/** As shim measures it. */
export const sbatLevelText = (level: SbatLevel): string =>
  Array.from(level, ([component, generation]) =>
    component === 'sbat' ? `sbat,1,${generation}\n` : `${component},${generation}\n`,
  ).join('');
