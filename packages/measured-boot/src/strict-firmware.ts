import { hintData } from '@keylime/event-log/coverage';
import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import type { UnlistedKind } from './reference-json.ts';
import { actionDigest, type StrictBoot, type StrictEvent } from './strict-boot.ts';
import type { StrictFirmware, StrictReference } from './strict-reference.ts';

const FIRMWARE_PCR = 0;

/** PCR 0 against one version of the firmware: its version exactly once, its volumes all and in order, and nothing else. */
export function judgeFirmware(boot: StrictBoot, { scrtm, blobs }: StrictFirmware): readonly BootViolation[] {
  const { bank } = boot;
  const violations: BootViolation[] = [];
  const version = scrtm?.get(bank);
  let versions = 0;
  let next = 0;
  let isWrongVersion = false;
  for (const { event, isListed } of boot.events(FIRMWARE_PCR)) {
    const { digest, type } = event;
    if (digest === version) {
      versions++;
      if (versions > 1) violations.push(violationBy(event, 'firmware_version_repeated', { found: digestWords(event) }));
    } else if (digest === blobs[next]?.get(bank)) next++;
    else if (!isListed) {
      const isVersion = type === 'EV_S_CRTM_VERSION';
      const isBlob = type === 'EV_EFI_PLATFORM_FIRMWARE_BLOB' || type === 'EV_EFI_PLATFORM_FIRMWARE_BLOB2';
      isWrongVersion ||= isVersion;
      const expected = isVersion ? version : isBlob ? blobs[next]?.get(bank) : undefined;
      const reason = isVersion ? 'firmware_version_unexpected' : isBlob ? 'firmware_unexpected' : 'event_unexpected';
      violations.push(violationBy(event, reason, { expected: expected ?? 'nothing more', found: digestWords(event) }));
    }
  }
  if (scrtm !== undefined && versions === 0 && !isWrongVersion) {
    violations.push({
      reason: 'firmware_version_missing',
      pcr: FIRMWARE_PCR,
      expected: version ?? `a digest of ${bank}`,
    });
  }
  if (next < blobs.length) {
    const expected = blobs.slice(next).map((digests) => digests.get(bank) ?? `a digest of ${bank}`);
    violations.push({ reason: 'firmware_missing', pcr: FIRMWARE_PCR, expected: expected.join(', ') });
  }
  return violations;
}

/** PCRs of settings, option ROMs and the state of the platform. */
const CONFIGURATION_PCRS: readonly number[] = [1, 2, 3, 6];

/** PCRs 1, 2, 3 and 6: everything is listed, or of a kind that need not be. */
export const judgeConfiguration = (boot: StrictBoot, { unlisted }: StrictReference): readonly BootViolation[] =>
  CONFIGURATION_PCRS.flatMap((pcr) =>
    boot
      .events(pcr)
      .filter((each) => !each.isListed && !isUnlistedKind(each, unlisted))
      .map(({ event }) => violationBy(event, 'event_unexpected', { expected: LISTED, found: digestWords(event) })),
  );

/** What is expected of an event that no rule is about. */
export const LISTED = 'a digest that the reference state lists';

const EXIT_PCR = 5;
const INVOCATION = 'Exit Boot Services Invocation';
const SUCCESS = 'Exit Boot Services Returned with Success';
const FAILURE = 'Exit Boot Services Returned with Failure';

/** PCR 5: the partition table and what else is listed, and at its end that the boot loader took over from the firmware. */
export function judgeExit(boot: StrictBoot, reference: StrictReference): readonly BootViolation[] {
  const actions = new Map([INVOCATION, SUCCESS, FAILURE].map((text) => [actionDigest(boot.bank, text), text]));
  const violations: BootViolation[] = [];
  const exits: string[] = [];
  for (const each of boot.events(EXIT_PCR)) {
    const { event, isAfterSeparator, isListed } = each;
    const action = actions.get(event.digest);
    if (action !== undefined && isAfterSeparator) exits.push(action);
    else if (exits.length > 0) {
      violations.push(violationBy(event, 'event_after_exit_boot_services', { found: digestWords(event) }));
    } else if (!isListed && !isUnlistedKind(each, reference.unlisted)) {
      violations.push(violationBy(event, 'event_unexpected', { expected: LISTED, found: digestWords(event) }));
    }
  }
  const isWhole = exits.includes(INVOCATION) && exits.at(-1) === SUCCESS;
  if (!isWhole && (exits.length > 0 || reference.exitBootServices === 'required')) {
    const found = [...exits, ...boot.unloggedActions.map((text) => `${text} (measured, not logged)`)];
    violations.push({
      reason: 'exit_boot_services_missing',
      pcr: EXIT_PCR,
      expected: `${INVOCATION}, ${SUCCESS}`,
      found: found.join(', ') || 'neither',
    });
  }
  return violations;
}

const TABLE_TYPES: ReadonlySet<string> = new Set([
  'EV_EFI_HANDOFF_TABLES',
  'EV_EFI_HANDOFF_TABLES2',
  'EV_TABLE_OF_DEVICES',
  'EV_CPU_MICROCODE',
  'EV_PLATFORM_CONFIG_FLAGS',
  'EV_NONHOST_CONFIG',
  'EV_EFI_VARIABLE_DRIVER_CONFIG',
]);

/** BootOrder or Boot####, its value covered: data that can be neither is of something else. */
function isBootVariable({ event, covered }: StrictEvent): boolean {
  const data = hintData(event);
  if (covered === undefined || data.kind !== 'variable') return false;
  return data.value.kind === 'boot_order' || data.value.kind === 'load_option';
}

/** Whether an event is of one of `kinds`. */
function isUnlistedKind(each: StrictEvent, kinds: ReadonlySet<UnlistedKind>): boolean {
  const { event, covered, isAfterSeparator } = each;
  switch (event.type) {
    case 'EV_EFI_VARIABLE_BOOT':
    case 'EV_EFI_VARIABLE_BOOT2':
      return kinds.has('boot_variables') && (event.pcr === 1 || event.pcr === 5) && isBootVariable(each);
    case 'EV_EFI_BOOT_SERVICES_DRIVER':
      return kinds.has('option_roms') && event.pcr === 2 && !isAfterSeparator;
    case 'EV_EFI_GPT_EVENT':
      return kinds.has('gpt') && event.pcr === EXIT_PCR && covered !== undefined;
    default:
      return kinds.has('firmware_tables') && event.pcr === 1 && !isAfterSeparator && TABLE_TYPES.has(event.type);
  }
}
