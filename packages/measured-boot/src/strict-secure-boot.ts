import { VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import { digestWords, nameWords, shown, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import type { DatabaseName } from './reference-json.ts';
import { type SignatureSet, signatureKey } from './reference-values.ts';
import { belowSbatLevel, parseSbatLevel } from './sbat-level.ts';
import { judgeDatabase, signaturesOf } from './signature-databases.ts';
import type { StrictBoot, StrictEvent } from './strict-boot.ts';
import { LISTED } from './strict-firmware.ts';
import { authorityKey, type StrictReference } from './strict-reference.ts';

const SECURE_BOOT_PCR = 7;

/** The variables that decide what starts, each measured once, before the separator. */
const DECIDING: readonly { readonly name: string; readonly guid: string; readonly database?: DatabaseName }[] = [
  { name: 'SecureBoot', guid: VARIABLE_GUIDS.global },
  { name: 'PK', guid: VARIABLE_GUIDS.global, database: 'pk' },
  { name: 'KEK', guid: VARIABLE_GUIDS.global, database: 'kek' },
  { name: 'db', guid: VARIABLE_GUIDS.imageSecurityDatabase, database: 'db' },
  { name: 'dbx', guid: VARIABLE_GUIDS.imageSecurityDatabase, database: 'dbx' },
];

/** PCR 7: Secure Boot as the reference state says, by the keys that it says, and images started by whom it allows. */
export function judgeSecureBoot(boot: StrictBoot, reference: StrictReference): readonly BootViolation[] {
  const violations: BootViolation[] = [];
  const measured = new Set<string>();
  let db: SignatureSet = new Set();
  let authorities = 0;
  let sbatLevels = 0;
  for (const each of boot.events(SECURE_BOOT_PCR)) {
    if (each.isListed) continue;
    const { event, covered } = each;
    const variable = covered?.kind === 'variable' ? covered : undefined;
    const deciding = DECIDING.find(({ name, guid }) => name === variable?.name && guid === variable.guid);
    if (variable !== undefined && deciding !== undefined && event.type === 'EV_EFI_VARIABLE_DRIVER_CONFIG') {
      if (each.isAfterSeparator)
        violations.push(violationBy(event, 'variable_after_separator', { found: deciding.name }));
      if (measured.has(deciding.name))
        violations.push(violationBy(event, 'variable_repeated', { found: deciding.name }));
      measured.add(deciding.name);
      if (deciding.database === 'db') db = signaturesOf(variable);
      violations.push(
        ...(deciding.database === undefined
          ? judgeSwitch(each, variable, reference)
          : judgeDatabase(each, variable, deciding.database, reference)),
      );
    } else if (variable !== undefined && event.type === 'EV_EFI_VARIABLE_AUTHORITY' && each.isAfterSeparator) {
      if (variable.value.kind === 'authority') authorities++;
      if (variable.name === 'SbatLevel') sbatLevels++;
      violations.push(...judgeAuthority(each, variable, db, reference));
    } else {
      violations.push(violationBy(event, 'event_unexpected', { expected: LISTED, found: digestWords(event) }));
    }
  }

  const missing = DECIDING.filter(({ name }) => !measured.has(name));
  for (const { name } of missing) violations.push({ reason: 'variable_missing', pcr: SECURE_BOOT_PCR, expected: name });
  if (reference.secureBoot && authorities === 0) {
    violations.push({ reason: 'authority_missing', pcr: SECURE_BOOT_PCR, expected: 'who let the boot loader start' });
  }
  if (reference.sbatLevel !== undefined && sbatLevels === 0) {
    violations.push({ reason: 'sbat_level_missing', pcr: SECURE_BOOT_PCR, expected: levelWords(reference.sbatLevel) });
  }
  return violations;
}

/** SecureBoot: one byte, 1 where it is to be on; where it is to be off, 0, or nothing at all as some firmware has it. */
function judgeSwitch({ event }: StrictEvent, { data }: UefiVariable, { secureBoot }: StrictReference) {
  const isOn = data.length === 1 && data[0] === 1;
  const isOff = data.length === 0 || (data.length === 1 && data[0] === 0);
  if (secureBoot ? isOn : isOff) return [];
  const found = isOn ? 'on' : isOff ? 'off' : `bytes ${shown(data.toString('hex'))}`;
  const reason = secureBoot ? 'secure_boot_off' : 'secure_boot_on';
  return [violationBy(event, reason, { expected: secureBoot ? 'on' : 'off', found })];
}

function judgeAuthority(
  { event }: StrictEvent,
  { name, guid, value, data }: UefiVariable,
  db: SignatureSet,
  { authorities, vendorDb, sbatLevel }: StrictReference,
): readonly BootViolation[] {
  const isShims = guid === VARIABLE_GUIDS.shimLock;
  if (isShims && name === 'MokListTrusted' && value.kind === 'switch') return [];
  if (isShims && name === 'SbatLevel' && value.kind === 'text') {
    const level = parseSbatLevel(value.text);
    const isEnough = sbatLevel === undefined || (level !== undefined && belowSbatLevel(level, sbatLevel).length === 0);
    if (isEnough) return [];
    return [violationBy(event, 'sbat_level_too_low', { expected: levelWords(sbatLevel), found: shown(value.text) })];
  }
  if (value.kind !== 'authority') {
    return [violationBy(event, 'event_unexpected', { expected: LISTED, found: digestWords(event) })];
  }
  const hex = `0x${value.data.toString('hex')}`;
  let isKnown: boolean;
  if (authorities !== undefined) isKnown = authorities.has(authorityKey(name, guid, value.owner, hex));
  // Images are judged by their digests then, and who signed them only has to make sense.
  else if (isShims) isKnown = name === 'Shim' || name === 'MokListRT';
  else if (guid !== VARIABLE_GUIDS.imageSecurityDatabase) isKnown = false;
  else if (name === 'vendor_db') isKnown = vendorDb.has(signatureKey(value.owner ?? '', value.data));
  // Old shim gives the name db and no owner to a certificate of its own.
  else isKnown = name === 'db' && (value.owner === undefined || db.has(signatureKey(value.owner, value.data)));
  if (isKnown) return [];
  const expected = authorities === undefined ? 'an entry of db, or shim and its keys' : 'one of the authorities';
  return [violationBy(event, 'authority_unexpected', { expected, found: `${nameWords(event)}, ${data.length} bytes` })];
}

const levelWords = (level: ReadonlyMap<string, number>): string =>
  Array.from(level, ([component, generation]) => `${component} ${generation}`).join(', ');
