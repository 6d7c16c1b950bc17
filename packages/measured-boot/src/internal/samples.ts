import { readFileSync } from 'node:fs';
import type { HashAlgorithm } from '@keylime/core/digest';
import { coveredData, hintBytes, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { encodeImageLoad, PATH_END } from '@keylime/event-log/encode-data';
import type { EventLog } from '@keylime/event-log/event';
import { replayBank } from '@keylime/event-log/replay';
import { type VerifiedEventLog, verifyEventLog } from '@keylime/event-log/verify';
import type {
  AuthorityJson,
  AuthorityVariable,
  DigestJson,
  SignatureJson,
  StrictReferenceJson,
} from '../reference-json.ts';
import { STRICT_PCRS } from '../strict-reference.ts';

/** Logs of packages/testing/vectors, changes of them, and reference states as a tool would make them. For tests. */

export type Machine = 'debian12-uefi-vm' | 'debian12-secureboot-vm';

const vector = (machine: Machine, name: string): Buffer =>
  readFileSync(new URL(`../../../testing/vectors/${machine}/${name}`, import.meta.url));

export const vectorLog = (machine: Machine): EventLog => decodeEventLog(vector(machine, 'bios.bin'));

/** The events of `log` to be written again, without the Spec ID event, each with its digests. */
export const eventsOf = (log: EventLog): EventToEncode[] =>
  log.events.slice(1).map((event) => ({
    pcr: event.pcr,
    type: event.typeId,
    data: hintBytes(event),
    digests: new Map(Array.from(event.digests, ([bank, hex]) => [bank, Buffer.from(hex, 'hex')])),
  }));

/** What a machine quotes that measured what `events` say. */
export const bootOf = (events: readonly EventToEncode[], bank: HashAlgorithm = 'sha256'): VerifiedEventLog =>
  verifiedBy(decodeEventLog(encodeEventLog(['sha1', 'sha256', 'sha384'], events)), bank);

/** `log` with the quote of a machine that it tells the truth of. */
export function verifiedBy(log: EventLog, bank: HashAlgorithm = 'sha256'): VerifiedEventLog {
  const replayed = replayBank(log, bank);
  const size = { sha1: 20, sha256: 32, sha384: 48, sha512: 64, sm3_256: 32 }[bank];
  const pcrs = new Map(STRICT_PCRS.map((pcr) => [pcr, replayed.get(pcr) ?? Buffer.alloc(size)]));
  const verified = verifyEventLog(log, { bank, pcrs }, STRICT_PCRS);
  if (!verified.ok) throw new Error(JSON.stringify(verified.failures));
  return verified.log;
}

const json = ({ bank, digest }: MeasuredEvent): DigestJson => ({ [bank]: `0x${digest}` });

/** The reference state of `strict` that says exactly what `boot` was; its command line is a text without special characters. */
export function referenceOf(boot: VerifiedEventLog): StrictReferenceJson {
  const { events } = boot;
  const chosen = new Set<MeasuredEvent>();
  const take = (wanted: (event: MeasuredEvent) => boolean): readonly MeasuredEvent[] => {
    const found = events.filter(wanted);
    for (const event of found) chosen.add(event);
    return found;
  };
  const ofType = (...types: readonly string[]) => take(({ type }) => types.includes(type));
  const named = (part: string) =>
    take((event) => {
      const hint = hintData(event);
      return hint.kind === 'file' ? hint.path.includes(part) : hint.kind === 'tag' && hint.meaning === part;
    });
  const mok = (name: string) => take((event) => isNamed(event, name));

  const database = (name: string): SignatureJson[] =>
    events.flatMap((event) => {
      const data = coveredData(event);
      if (data?.kind !== 'variable' || data.name !== name || data.value.kind !== 'signature_database') return [];
      return data.value.lists.flatMap(({ signatures }) =>
        signatures.map((each) => ({ SignatureOwner: each.owner, SignatureData: `0x${each.data.toString('hex')}` })),
      );
    });
  const authorities = events.flatMap((event): AuthorityJson[] => {
    const data = coveredData(event);
    if (data?.kind !== 'variable' || data.value.kind !== 'authority') return [];
    return [
      {
        variable: data.name as AuthorityVariable,
        ...(data.value.owner !== undefined && { SignatureOwner: data.value.owner }),
        SignatureData: `0x${data.value.data.toString('hex')}`,
      },
    ];
  });
  ofType('EV_SEPARATOR');
  take(({ pcr, type }) => type === 'EV_EFI_ACTION' && (pcr === 4 || pcr === 5));
  take((event) => {
    const data = hintData(event);
    return event.pcr === 7 && data.kind === 'variable' && data.value.kind !== 'bytes';
  });
  const [scrtm] = ofType('EV_S_CRTM_VERSION');
  const blobs = ofType('EV_EFI_PLATFORM_FIRMWARE_BLOB');
  const images = ofType('EV_EFI_BOOT_SERVICES_APPLICATION');
  const lines = take((event) => {
    const hint = hintData(event);
    return hint.kind === 'grub' && hint.role === 'kernel_cmdline';
  }).flatMap((event) => {
    const data = coveredData(event);
    return data?.kind === 'grub_text' ? [data.text] : [];
  });
  const [initrd] = [...named('initrd'), ...named('linux_initrd')];
  const [vmlinuz] = named('vmlinuz');
  const [loadOptions] = named('linux_load_options');
  const mokList = mok('MokList');
  const mokListX = mok('MokListX');
  mok('MokListTrusted');
  const listed: Record<string, DigestJson[]> = {};
  for (const event of events) {
    if (chosen.has(event)) continue;
    listed[event.pcr] = [...(listed[event.pcr] ?? []), json(event)];
  }
  return {
    has_secureboot: events.some((event) => {
      const data = coveredData(event);
      return data?.kind === 'variable' && data.value.kind === 'switch' && data.name === 'SecureBoot' && data.value.on;
    }),
    scrtm_and_bios: [{ ...(scrtm && { scrtm: json(scrtm) }), platform_firmware: blobs.map(json) }],
    pk: database('PK'),
    kek: database('KEK'),
    db: database('db'),
    dbx: database('dbx'),
    mokdig: mokList.map(json),
    mokxdig: mokListX.map(json),
    kernels: [
      {
        images: images.map(json),
        ...(vmlinuz && { [`vmlinuz_plain_${boot.bank}`]: `0x${vmlinuz.digest}` }),
        ...(initrd && { [`initrd_plain_${boot.bank}`]: `0x${initrd.digest}` }),
        ...(lines[0] !== undefined && { kernel_cmdline: lines[0].replace(/[^\w ]/g, '\\$&') }),
        ...(loadOptions && { load_options: json(loadOptions) }),
      },
    ],
    digests: listed,
    authorities,
  };
}

/** Whether shim says that it measured the variable `name`. */
export function isNamed(event: MeasuredEvent, name: string): boolean {
  const hint = hintData(event);
  return hint.kind === 'shim_variable' && hint.name === name;
}

/** The boot of the machine with Secure Boot, had it measured `change` of its events; `at` counts as in the log. */
export function changed(
  change: (events: EventToEncode[], at: (index: number) => EventToEncode) => readonly EventToEncode[],
): VerifiedEventLog {
  const events = eventsOf(vectorLog('debian12-secureboot-vm'));
  return bootOf(
    change(events, (index) => {
      const event = events[index - 1];
      if (event === undefined) throw new RangeError(`the log has no event ${index}`);
      return event;
    }),
  );
}

export const without = (...indexes: readonly number[]): VerifiedEventLog =>
  changed((events) => events.filter((_, i) => !indexes.includes(i + 1)));

export const replacing = (index: number, event: EventToEncode): VerifiedEventLog =>
  changed((events) => events.with(index - 1, event));

export const inserting = (index: number, ...added: readonly EventToEncode[]): VerifiedEventLog =>
  changed((events) => events.toSpliced(index - 1, 0, ...added));

export const appending = (...added: readonly EventToEncode[]): VerifiedEventLog =>
  changed((events) => [...events, ...added]);

/** An event with the digests of `of`. */
export const measured = (
  pcr: number,
  type: EventToEncode['type'],
  data: Uint8Array,
  of: Uint8Array = data,
): EventToEncode => ({ pcr, type, data, measured: of });

export const grub = (prefix: string, text: string): EventToEncode =>
  measured(8, 'EV_IPL', Buffer.from(`${prefix}${text}\0`), Buffer.from(text));

export const file = (path: string, content: string): EventToEncode =>
  measured(9, 'EV_IPL', Buffer.from(`${path}\0`), Buffer.from(content));

export const image = (content: string): EventToEncode =>
  measured(4, 'EV_EFI_BOOT_SERVICES_APPLICATION', encodeImageLoad(PATH_END), Buffer.from(content));

/** The command line of the machine with Secure Boot, as GRUB measured it. */
export const LINE = '/boot/vmlinuz root=LABEL=ROOT rw console=ttyS0 ima_policy=tcb ima_hash=sha256 quiet';
