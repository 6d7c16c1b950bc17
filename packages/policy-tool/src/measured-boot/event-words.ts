import { hintBytes, hintData } from '@keylime/event-log/coverage';
import type { BootEvent } from '@keylime/event-log/event';
import type { EventData, TagMeaning } from '@keylime/event-log/event-data';
import { SIGNATURE_TYPES } from '@keylime/event-log/guid';
import type { EfiSignatureList } from '@keylime/event-log/signature-list';
import { bankOf, type SpecId } from '@keylime/event-log/spec-id';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import { certificateName } from './certificate-name.ts';

/** What an event says that was measured, for a person. Not verified, and with whatever characters the log has. */
export function eventWords(event: BootEvent): string {
  const data = hintData(event);
  switch (data.kind) {
    case 'empty':
      return 'no data';
    case 'bytes':
      return bytesWords(hintBytes(event));
    case 'malformed':
      return `malformed ${data.field}: ${data.problem}`;
    case 'spec_id':
      return specIdWords(data);
    case 'startup_locality':
      return `the TPM was started from locality ${data.locality}`;
    case 'sp800_155':
      return `reference manifest ${data.manifest} of vendor ${data.vendorId}`;
    case 'separator':
      return separatorWords(data.value);
    case 'text':
      return data.text;
    case 'guid':
      return data.guid;
    case 'variable':
      return `${data.name}: ${variableWords(data)}`;
    case 'image_load':
      return data.devicePath === '' ? 'image in memory' : data.devicePath;
    case 'gpt':
      return `disk ${data.header.diskGuid} with ${count(data.partitions.length, 'partition')}`;
    case 'blob':
      return `${data.length} bytes at 0x${data.base.toString(16)}${descriptionWords(data.description)}`;
    case 'handoff_tables':
      return `${count(data.tables.length, 'table')}${descriptionWords(data.description)}`;
    case 'grub':
      return `${GRUB_WORDS[data.role]}: ${data.text}`;
    case 'file':
      return `file ${data.path}`;
    case 'section':
      return `section ${data.name}`;
    case 'load_options':
      return `command line: ${data.text}`;
    case 'shim_variable':
      return `variable ${data.name}`;
    case 'tag':
      return tagWords(data);
    case 'gce_nonhost_info':
      return `memory encryption: ${data.technology}`;
  }
}

const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`;

const MOST_BYTES = 32;

const bytesWords = (bytes: Buffer): string =>
  `${count(bytes.length, 'byte')} ${bytes.toString('hex', 0, MOST_BYTES)}${bytes.length > MOST_BYTES ? '...' : ''}`;

const descriptionWords = (description: Buffer | undefined): string =>
  description === undefined || description.length === 0 ? '' : ` (${description.toString('latin1')})`;

function specIdWords({ specVersionMajor, specVersionMinor, algorithms }: SpecId): string {
  const banks = algorithms.map(({ algorithmId }) => bankOf(algorithmId) ?? `0x${algorithmId.toString(16)}`);
  return `log of specification ${specVersionMajor}.${specVersionMinor} in ${banks.join(', ')}`;
}

function separatorWords(value: number): string {
  if (value === 1) return 'firmware error';
  return value === 0 ? 'separator' : `separator ${value.toString(16).padStart(8, '0')}`;
}

function variableWords({ value, data }: UefiVariable): string {
  switch (value.kind) {
    case 'bytes':
      return bytesWords(data);
    case 'malformed':
      return `malformed: ${value.problem}`;
    case 'switch':
      return value.on ? 'on' : 'off';
    case 'signature_database':
      return databaseWords(value.lists);
    case 'authority':
      return certificateName(value.data) ?? bytesWords(value.data);
    case 'boot_order':
      return value.order.map((number) => `Boot${number.toString(16).padStart(4, '0').toUpperCase()}`).join(', ');
    case 'load_option':
      return `${value.description}${value.active ? '' : ' (inactive)'} ${value.devicePath}`;
    case 'text':
      return value.text.trim();
  }
}

function databaseWords(lists: readonly EfiSignatureList[]): string {
  const counts = { certificate: 0, hash: 0 };
  for (const { type, signatures } of lists) {
    counts[type === SIGNATURE_TYPES.x509 ? 'certificate' : 'hash'] += signatures.length;
  }
  const { certificate, hash } = counts;
  const words = [
    ...(certificate > 0 ? [count(certificate, 'certificate')] : []),
    ...(hash > 0 ? [`${hash} ${hash === 1 ? 'hash' : 'hashes'}`] : []),
  ];
  return words.join(', ') || 'empty';
}

const GRUB_WORDS = {
  command: 'GRUB command',
  kernel_cmdline: 'kernel command line',
  module_cmdline: 'module command line',
} as const;

const TAG_WORDS: Readonly<Record<TagMeaning, string>> = {
  linux_load_options: "kernel command line, by Linux's stub",
  linux_initrd: "initrd, by Linux's stub",
  systemd_loader_conf: 'loader.conf',
  systemd_devicetree_addon: 'device tree of an add-on',
  systemd_initrd_addon: 'initrd of an add-on',
  systemd_ucode_addon: 'microcode of an add-on',
  systemd_uki_profile: 'profile of the unified kernel image',
  unknown: 'tag',
};

function tagWords({ meaning, id, data }: Extract<EventData, { kind: 'tag' }>): string {
  return meaning === 'unknown' ? `tag 0x${id.toString(16)}, ${bytesWords(data)}` : TAG_WORDS[meaning];
}
