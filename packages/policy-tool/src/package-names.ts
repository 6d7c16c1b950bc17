import { ToolError } from './tool-error.ts';

/** Packages that an operator asks for by their names; all, if he names none. */
export type PackageNames = {
  /** Whether a package of that name, which is there, is to be taken. */
  readonly wants: (name: string) => boolean;
  /** @throws ToolError `not_found` with the names that were nowhere */
  readonly requireAll: (where: string) => void;
};

/** `lists` are names, separated by commas. */
export function packageNames(lists: readonly string[] = []): PackageNames {
  const names = new Set(lists.flatMap((list) => list.split(',')).filter((name) => name !== ''));
  const missing = new Set(names);
  return {
    wants(name) {
      missing.delete(name);
      return names.size === 0 || names.has(name);
    },
    requireAll(where) {
      if (missing.size > 0) throw new ToolError('not_found', `${where} has no package ${[...missing].join(', ')}`);
    },
  };
}
