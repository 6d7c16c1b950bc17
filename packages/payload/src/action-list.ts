/** Names of revocation actions, and what was named but may not be run. */
export type ActionList = { readonly names: readonly string[]; readonly refused: readonly string[] };

/**
 * Reads an `action_list`, or the setting `revocation_actions`: names separated by commas, blanks, tabs or newlines, perhaps
 * in `[ ]`. [compat] Quotes belong to the name. [MUST] A name is one part of a path: what could lead out of the folder of
 * actions is refused. Source: spec 06 section 4.5.
 */
export function parseActionList(text: string): ActionList {
  const items = text
    .trim()
    .replace(/^\[([\s\S]*)\]$/, '$1')
    .split(/[,\s]+/)
    .filter((item) => item !== '');
  const unique = [...new Set(items)];
  return { names: unique.filter(isActionName), refused: unique.filter((item) => !isActionName(item)) };
}

/** Whether `name` stays in the folder that it is looked up in, is no option of a program, and can be shown in a log. */
export const isActionName = (name: string): boolean =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be in a name
  name !== '.' && name !== '..' && /^[^-/\\\x00-\x20\x7f][^/\\\x00-\x20\x7f]{0,99}$/u.test(name);
