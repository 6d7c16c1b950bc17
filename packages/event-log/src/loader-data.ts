import { isUtf8 } from 'node:buffer';
import { countedBytes, type Reader, struct, u32le } from '@keylime/core/codec';
import type { EventData, GrubRole, TagMeaning } from './event-data.ts';
import { requireEnd } from './firmware-data.ts';
import type { Quirk } from './quirks.ts';
import { beforeNul, isUtf16Text, plainText, textData, utf16Text, withoutNul } from './text.ts';

/** What GRUB writes before a text that it measures into PCR 8; the older prefixes are those of Fedora's and RHEL's patch. */
const GRUB_PREFIXES: readonly { readonly prefix: Buffer; readonly role: GrubRole; readonly old: boolean }[] = (
  [
    ['grub_cmd: ', 'command', false],
    ['kernel_cmdline: ', 'kernel_cmdline', false],
    ['module_cmdline: ', 'module_cmdline', false],
    ['grub_cmd ', 'command', true],
    ['grub_kernel_cmdline ', 'kernel_cmdline', true],
    ['grub_module_cmdline ', 'module_cmdline', true],
  ] as const
).map(([prefix, role, old]) => ({ prefix: Buffer.from(prefix, 'latin1'), role, old }));

export const GRUB_PCR = 8;
export const GRUB_FILE_PCR = 9;
export const SECTION_PCR = 11;
export const LOAD_OPTIONS_PCR = 12;
export const SHIM_PCR = 14;

/** Splits what GRUB logged in PCR 8. `text` is what the digest covers, without its NUL. */
export function splitGrubText(bytes: Buffer): { role: GrubRole; old: boolean; text: Buffer } | undefined {
  const found = GRUB_PREFIXES.find(({ prefix }) => bytes.subarray(0, prefix.length).equals(prefix));
  return found && { role: found.role, old: found.old, text: withoutNul(bytes.subarray(found.prefix.length)) };
}

/** EV_IPL: what a boot loader measured, told by the PCR that it uses. */
export function readIpl(pcr: number, bytes: Buffer, note: (quirk: Quirk) => void): EventData {
  if (pcr === GRUB_PCR) {
    const grub = splitGrubText(bytes);
    if (grub !== undefined) {
      if (grub.old) note('grub_old_prefix');
      return { kind: 'grub', role: grub.role, text: notedText(grub.text, note) };
    }
  }
  // systemd-boot before 251 leaves out the last byte of the text's NUL.
  const wide = pcr === GRUB_PCR && bytes.length % 2 === 1 ? withoutNul(bytes) : bytes;
  if (isUtf16Text(wide)) {
    const text = utf16Text(wide);
    if (pcr === SECTION_PCR) return { kind: 'section', name: text };
    if (pcr === GRUB_PCR || pcr === LOAD_OPTIONS_PCR) return { kind: 'load_options', text };
    return { kind: 'text', text, encoding: 'utf16le' };
  }
  if (pcr === GRUB_FILE_PCR) return { kind: 'file', path: notedText(withoutNul(bytes), note) };
  if (pcr === SHIM_PCR) {
    const name = beforeNul(bytes);
    if (bytes.length > name.length + 1) note('shim_stray_byte');
    return { kind: 'shim_variable', name: notedText(name, note) };
  }
  return textData(bytes, note);
}

function notedText(bytes: Buffer, note: (quirk: Quirk) => void): string {
  if (!isUtf8(bytes)) note('not_utf8');
  return plainText(bytes);
}

/** TCG_PCClientTaggedEvent (TCG PFP 1.06, 10.4.2.2). */
const TaggedEvent = struct({ id: u32le, data: countedBytes(u32le, 0xffff_ffff) });

const TAG_MEANINGS: ReadonlyMap<number, TagMeaning> = new Map([
  [0x8f3b22ed, 'linux_load_options'],
  [0x8f3b22ec, 'linux_initrd'],
  [0xf5bc582a, 'systemd_loader_conf'],
  [0x6c46f751, 'systemd_devicetree_addon'],
  [0x49dffe0f, 'systemd_initrd_addon'],
  [0xdac08e1a, 'systemd_ucode_addon'],
  [0x13aed6db, 'systemd_uki_profile'],
]);

/** EV_EVENT_TAG. Windows writes many tags, one in the other, in one event: `id` and `data` are the outermost. */
export function readTag(reader: Reader): EventData {
  const tag = TaggedEvent.read(reader);
  requireEnd(reader);
  return { kind: 'tag', meaning: TAG_MEANINGS.get(tag.id) ?? 'unknown', ...tag };
}
