import { hintBytes, hintData } from '@keylime/event-log/coverage';
import { encodeUtf16 } from '@keylime/event-log/encode-data';
import type { BootChain } from './boot-chain.ts';
import type { EventView } from './event-view.ts';
import { changeEvent, hasDigest, hashOf, type LogEdit } from './log-edit.ts';

/** How a loader gives a command line to the kernel's stub, which measures it as it is. */
const FORMS: readonly ((text: string) => Buffer)[] = [(text) => encodeUtf16(text), (text) => encodeUtf16(`${text}\0`)];

/**
 * The load options as Linux's stub measures them (PCR 9): in the form in which the loader passes them now, which is told by
 * the digest that they have now. Source: Linux 6.12, drivers/firmware/efi/libstub/efi-stub-helper.c.
 */
export function changeStubCommandLine(edit: LogEdit, chain: BootChain, old: string | undefined, text: string): void {
  for (const { event } of chain.commandLines) {
    if (hintData(event.event).kind !== 'tag') continue;
    const form = old === undefined ? undefined : FORMS.find((each) => hasDigest(event.event, hashOf(each(old))));
    if (form === undefined) {
      edit.unknown.set(
        9,
        old === undefined
          ? 'the log has only a digest of the command line: name the one of now with --current-cmdline, to tell its form'
          : `event ${event.event.index} is of another command line than ${old}: name the one of now with --current-cmdline`,
      );
    } else changeEvent(edit, event.event, `command line, by Linux's stub: ${text}`, hashOf(form(text)));
  }
}

/** A command line that systemd-boot or systemd-stub was passed and measures (PCR 12, before systemd 251 PCR 8). */
export function changeLoadOptions(edit: LogEdit, { event, measured }: EventView, text: string): void {
  const whole = encodeUtf16(`${text}\0`);
  const isOld = Array.from(measured.values()).some(({ quirks }) => quirks.includes('systemd_boot_digest_with_nul'));
  const data = isOld && hintBytes(event).length % 2 === 1 ? whole.subarray(0, -1) : whole;
  const hashed = isOld ? [data, Buffer.of(0)] : [data];
  changeEvent(edit, event, `command line: ${text}`, hashOf(...hashed), data);
}
