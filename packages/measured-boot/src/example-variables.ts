import { SIGNATURE_TYPES, VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { EfiSignatureList } from '@keylime/event-log/signature-list';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import type { ExampleReference } from './example-reference.ts';
import { type SignatureSet, signatureKey } from './reference-values.ts';

/** By `variableKey`: what is wrong with a variable, a reason, or nothing. */
export type VariableRules = ReadonlyMap<string, VariableRule>;
type VariableRule = (variable: UefiVariable, reference: ExampleReference) => string | undefined;

const accepted: VariableRule = () => undefined;

/** Key by which the tables below are looked up. */
const of = (guid: string, name: string): string => `${guid} ${name}`;
const { global, imageSecurityDatabase, shimLock } = VARIABLE_GUIDS;
const { x509, sha256 } = SIGNATURE_TYPES;

/** EV_EFI_VARIABLE_DRIVER_CONFIG of PCR 7. Each has to be there, once. */
export const DECIDING_VARIABLES: VariableRules = new Map([
  [
    of(global, 'SecureBoot'),
    ({ value }, { secureBoot }) =>
      value.kind === 'switch' && value.on === secureBoot ? undefined : 'secure_boot_unexpected',
  ],
  [of(global, 'PK'), (variable, reference) => judgeKeys(variable, reference.databases.pk, reference, [x509])],
  [of(global, 'KEK'), (variable, reference) => judgeKeys(variable, reference.databases.kek, reference, [x509])],
  [
    of(imageSecurityDatabase, 'db'),
    (variable, reference) => judgeKeys(variable, reference.databases.db, reference, [x509, sha256]),
  ],
  [of(imageSecurityDatabase, 'dbx'), judgeRevocations],
]);

/** EV_EFI_VARIABLE_AUTHORITY of PCR 7. */
export const AUTHORITIES: VariableRules = new Map([
  [of(imageSecurityDatabase, 'db'), accepted],
  [of(imageSecurityDatabase, 'vendor_db'), judgeVendorDb],
  [of(shimLock, 'SbatLevel'), accepted],
  [of(shimLock, 'Shim'), accepted],
  [of(shimLock, 'MokListRT'), accepted],
  [of(shimLock, 'MokListTrusted'), ({ value }) => (value.kind === 'switch' ? undefined : 'variable_malformed')],
]);

export const variableKey = ({ guid, name }: UefiVariable): string => of(guid, name);

/** Without Secure Boot, a database that the reference state leaves empty is not judged. */
const isOpen = ({ secureBoot }: ExampleReference, signatures: SignatureSet): boolean =>
  !secureBoot && signatures.size === 0;

const listsOf = ({ value }: UefiVariable): readonly EfiSignatureList[] | undefined =>
  // [compat] What is empty is no list of keys, and passes only where anything does.
  value.kind === 'signature_database' && value.lists.length > 0 ? value.lists : undefined;

function judgeKeys(
  variable: UefiVariable,
  allowed: SignatureSet,
  reference: ExampleReference,
  types: readonly string[],
): string | undefined {
  if (isOpen(reference, allowed)) return undefined;
  const lists = listsOf(variable);
  if (lists === undefined) return 'database_empty';
  const areKnown = lists.every(
    ({ type, signatures }) =>
      types.includes(type) && signatures.every(({ owner, data }) => allowed.has(signatureKey(owner, data))),
  );
  return areKnown ? undefined : 'signature_unexpected';
}

/** dbx: [compat] exactly one list, of hashes, with all that the reference state demands. */
function judgeRevocations(variable: UefiVariable, reference: ExampleReference): string | undefined {
  const { dbx } = reference.databases;
  if (isOpen(reference, dbx)) return undefined;
  const [list, ...others] = listsOf(variable) ?? [];
  if (list === undefined) return 'database_empty';
  if (others.length > 0 || list.type !== sha256) return 'database_not_one_list_of_hashes';
  const there = new Set(list.signatures.map(({ owner, data }) => signatureKey(owner, data)));
  return [...dbx].every((key) => there.has(key)) ? undefined : 'signature_missing';
}

function judgeVendorDb({ value }: UefiVariable, reference: ExampleReference): string | undefined {
  if (isOpen(reference, reference.vendorDb)) return undefined;
  const isKnown = value.kind === 'authority' && reference.vendorDb.has(signatureKey(value.owner ?? '', value.data));
  return isKnown ? undefined : 'authority_unexpected';
}
