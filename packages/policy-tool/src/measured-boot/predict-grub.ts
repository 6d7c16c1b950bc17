import { hintData } from '@keylime/event-log/coverage';
import { linuxCommandLine } from '@keylime/measured-boot/grub-command';
import type { BootChain } from './boot-chain.ts';
import type { EventView } from './event-view.ts';
import type { KernelUpdate } from './kernel-update.ts';
import { changeEvent, hashOf, type LogEdit } from './log-edit.ts';
import { changeStubCommandLine } from './predict-stub.ts';

/** A command line of now, and what it will be: with the path of the kernel before it, as GRUB has it. */
type Texts = { readonly old: string; readonly new_: string };

/**
 * What GRUB measures of its commands (PCR 8), and Linux's stub of what GRUB passes on (PCR 9), after an update of the kernel's
 * path, of paths of initrds, or of the command line. Source: GRUB 2.12, grub-core/commands/efi/tpm.c and
 * grub-core/lib/cmdline.c.
 */
export function predictGrub(edit: LogEdit, views: readonly EventView[], chain: BootChain, update: KernelUpdate): void {
  const { kernelPath, commandLine, initrdPaths } = update;
  const initrds = initrdPaths.length > 0 ? initrdPaths.join(' ') : undefined;
  if (kernelPath === undefined && commandLine === undefined && initrds === undefined) return;
  const lines = chain.commandLines.filter(({ event }) => hintData(event.event).kind === 'grub');
  const [line] = lines;
  if (line?.text === undefined || lines.length > 1) {
    edit.unknown.set(8, `${lines.length} command lines of GRUB in the log: which one changes cannot be told`);
    return;
  }
  const [oldPath = '', ...oldArguments] = line.text.split(' ');
  const path = kernelPath ?? oldPath;
  const arguments_ = commandLine ?? oldArguments.join(' ');
  // A reference state has the path before it, too.
  const texts: Texts = {
    old: line.text,
    new_: arguments_.startsWith(`${path} `) ? arguments_ : `${path} ${arguments_}`,
  };
  if (texts.new_ !== texts.old) {
    changeText(edit, line.event, texts.new_);
    if (!changeCommands(edit, views, texts)) {
      edit.unknown.set(
        8,
        'no command of GRUB in the log is the command line as it is: how GRUB will write it cannot be told',
      );
    }
    changeStubCommandLine(edit, chain, `BOOT_IMAGE=${texts.old}`, `BOOT_IMAGE=${texts.new_}`);
  }
  if (initrds !== undefined) {
    for (const view of views) {
      const command = commandOf(view);
      const name = /^initrd\S*/.exec(command ?? '')?.[0];
      if (name !== undefined) changeText(edit, view, `${name} ${initrds}`);
    }
  }
  edit.notes.push(
    'PCR 8 has every command that GRUB runs: its prediction holds if grub.cfg changes in nothing else, no title of a menu included',
  );
}

/** Changes the commands `linux` that have the command line in them; tells whether there is one. */
function changeCommands(edit: LogEdit, views: readonly EventView[], { old, new_ }: Texts): boolean {
  let found = false;
  for (const view of views) {
    const command = commandOf(view) ?? '';
    const line = linuxCommandLine(command);
    if (line === undefined) continue;
    if (line !== old) return false;
    changeText(edit, view, command.slice(0, -line.length) + new_);
    found = true;
  }
  return found;
}

function commandOf({ event }: EventView): string | undefined {
  const data = hintData(event);
  return data.kind === 'grub' && data.role === 'command' ? data.text : undefined;
}

const PREFIXES = { command: 'grub_cmd: ', kernel_cmdline: 'kernel_cmdline: ', module_cmdline: 'module_cmdline: ' };

/** Makes a text of GRUB another one, measured as this GRUB does: with a NUL or, as all but old ones, without. */
function changeText(edit: LogEdit, { event, measured }: EventView, text: string): void {
  const data = hintData(event);
  if (data.kind !== 'grub') return;
  const withNul = Array.from(measured.values()).some(({ quirks }) => quirks.includes('grub_digest_with_nul'));
  const bytes = Buffer.from(`${PREFIXES[data.role]}${text}\0`);
  changeEvent(edit, event, `GRUB: ${text}`, hashOf(Buffer.from(withNul ? `${text}\0` : text)), bytes);
}
