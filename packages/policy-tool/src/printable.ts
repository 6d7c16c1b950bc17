import { showName } from '@keylime/ima/list-text';

/**
 * `text` without a character that a terminal could take for a command or that hides what is beside it: those are written
 * as `\xNN` or `\u{N}`. Backslashes stay single, for device paths are full of them.
 */
export const printable = (text: string): string => showName(text).replaceAll('\\\\', '\\');

/** `value` as JSON that is as safe on a terminal: what JSON itself leaves as it is becomes `\uNNNN`. */
export const printableJson = (value: object): string =>
  JSON.stringify(value, undefined, 2).replace(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character.replace(/./gsu, (each) => escapeUnits(each)),
  );

const escapeUnits = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');
