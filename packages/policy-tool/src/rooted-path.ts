/** What is at a path: the target of a link, or something else, or nothing. */
export type LinkReader = (path: string) => string | undefined;

/** As Linux (namei.h MAXSYMLINKS). */
const MAX_LINKS = 40;

/**
 * Follows the links in the directories of an absolute path, but not one in its last part, with `/` meaning the root of the
 * tree that `readLink` knows; `undefined` where links go round in circles.
 */
export function resolveParents(path: string, readLink: LinkReader): string | undefined {
  let links = 0;
  const todo = path.split('/').reverse();
  const done: string[] = [];
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const target = todo.some((rest) => rest !== '' && rest !== '.')
      ? readLink(`/${[...done, part].join('/')}`)
      : undefined;
    if (target === undefined) {
      done.push(part);
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    if (target.startsWith('/')) done.length = 0;
    todo.push(...target.split('/').reverse());
  }
  return `/${done.join('/')}`;
}
