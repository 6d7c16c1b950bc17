export type EntryNameProblem =
  | 'name_empty'
  | 'name_absolute'
  | 'name_leaves_folder'
  | 'name_character'
  | 'name_too_long';

/** Longest name of a file that Linux takes, and far more folders than a payload needs. */
const MAX_PART_BYTES = 255;
const MAX_NAME_BYTES = 1024;

/**
 * What is wrong with the name of an archive's entry (without the `/` that marks a folder); `undefined` if it can be joined to
 * a folder and stays in it. [MUST] spec 02 section 5.5.
 */
export function entryNameProblem(name: string): EntryNameProblem | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be in a name
  if (/[\\\x00-\x1f\x7f]/.test(name)) return 'name_character';
  if (name.startsWith('/') || /^[A-Za-z]:/.test(name)) return 'name_absolute';
  const parts = name.split('/');
  if (parts.includes('..') || parts.includes('.')) return 'name_leaves_folder';
  if (parts.includes('')) return 'name_empty';
  const tooLong = parts.some((part) => Buffer.byteLength(part) > MAX_PART_BYTES);
  return tooLong || Buffer.byteLength(name) > MAX_NAME_BYTES ? 'name_too_long' : undefined;
}
