/** Directories that are links into `/usr` on a merged system, where the kernel names files by their real place. */
const MERGED = /^\/(?:bin|sbin|lib|lib32|lib64|libx32)\//;

/**
 * The names that a file of a package may have once it is installed: packages of merged systems, too, have files below
 * `/lib`, such as kernel modules of Fedora.
 */
export const installedNames = (file: string): readonly string[] => (MERGED.test(file) ? [file, `/usr${file}`] : [file]);
