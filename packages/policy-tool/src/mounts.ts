/** A mounted file system. */
export type Mount = { readonly point: string; readonly type: string };

/** Reads `/proc/self/mountinfo` (proc(5)): blanks and backslashes of paths are written as octal escapes. */
export function parseMountinfo(text: string): readonly Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const point = left.split(' ')[4];
    const type = right.split(' ')[0];
    if (point === undefined || type === undefined || type === '') return [];
    return [
      { point: point.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))), type },
    ];
  });
}

const isBelow = (path: string, directory: string): boolean =>
  directory === '/' ? path !== '/' : path.startsWith(`${directory}/`);

/**
 * Mount points below `root` on which another type of file system is mounted than the one that `root` lies on: virtual file
 * systems, network shares, images. A disk of its own for `/home` has the same type and is no such point.
 */
export function foreignMounts(mounts: readonly Mount[], root: string): readonly string[] {
  const home = mounts
    .filter(({ point }) => point === root || isBelow(root, point))
    .reduce<Mount | undefined>(
      (deepest, one) => ((deepest?.point.length ?? 0) > one.point.length ? deepest : one),
      undefined,
    );
  return mounts.filter(({ point, type }) => isBelow(point, root) && type !== home?.type).map(({ point }) => point);
}
