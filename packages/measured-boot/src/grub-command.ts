/** The commands of GRUB that load a kernel, each with the file and the command line behind it. */
const LINUX = /^linux(?:16|efi)? /;

/** What GRUB sets in a command line around arguments with spaces, and before some characters. */
const QUOTING = /["'\\]/g;

/** The command line of a command of GRUB that loads a kernel; `undefined` of any other. */
export const linuxCommandLine = (command: string): string | undefined =>
  LINUX.test(command) ? command.replace(LINUX, '') : undefined;

/**
 * Whether `command` is the one that made GRUB pass `line` to a kernel: GRUB measures the command, and the command line
 * directly after it. Source: GRUB 2.06, grub-core/script/execute.c and loader/i386/linux.c.
 */
export const loadsWith = (command: string, line: string): boolean =>
  linuxCommandLine(command)?.replace(QUOTING, '') === line.replace(QUOTING, '');
