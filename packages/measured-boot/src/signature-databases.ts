import { X509Certificate } from 'node:crypto';
import { digestHex } from '@keylime/core/digest';
import { SIGNATURE_TYPES } from '@keylime/event-log/guid';
import type { EfiSignatureData, EfiSignatureList } from '@keylime/event-log/signature-list';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import { violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import type { DatabaseName } from './reference-json.ts';
import { type SignatureSet, signatureKey } from './reference-values.ts';
import type { StrictEvent } from './strict-boot.ts';
import type { StrictReference } from './strict-reference.ts';

type Entry = { readonly list: EfiSignatureList; readonly signature: EfiSignatureData; readonly key: string };

/** All entries of a database, by `signatureKey`. */
export const signaturesOf = (database: UefiVariable): SignatureSet =>
  new Set(entriesOf(database).map(({ key }) => key));

const entriesOf = ({ value }: UefiVariable): readonly Entry[] =>
  value.kind !== 'signature_database'
    ? []
    : value.lists.flatMap((list) =>
        list.signatures.map((signature) => ({ list, signature, key: signatureKey(signature.owner, signature.data) })),
      );

/** PK, KEK, db and dbx against the reference state, each by its rule. With Secure Boot all but dbx have an entry. */
export function judgeDatabase(
  { event }: StrictEvent,
  database: UefiVariable,
  name: DatabaseName,
  { databases, secureBoot }: StrictReference,
): readonly BootViolation[] {
  const { signatures, rule } = databases[name];
  if (database.value.kind !== 'signature_database') {
    return [violationBy(event, 'database_malformed', { expected: `a signature database ${name}` })];
  }
  const entries = entriesOf(database);
  const violations: BootViolation[] = [];
  if (secureBoot && entries.length === 0 && name !== 'dbx') {
    violations.push(violationBy(event, 'database_empty', { expected: `an entry in ${name}`, found: 'none' }));
  }
  // Of another type, an entry that is listed would have no effect.
  const [malformed] = entries.filter((entry) => !isWellFormed(entry, signatures.has(entry.key)));
  if (malformed !== undefined) {
    violations.push(violationBy(event, 'signature_malformed', { expected: WELL_FORMED, found: entryWords(malformed) }));
  }
  const [other, ...more] = rule === 'superset' ? [] : entries.filter(({ key }) => !signatures.has(key));
  if (other !== undefined) {
    const found = `in ${name} ${entryWords(other)}${andMore(more)}`;
    violations.push(violationBy(event, 'signature_unexpected', { expected: 'entries of the reference state', found }));
  }
  if (rule !== 'subset') {
    const there = new Set(entries.map(({ key }) => key));
    const [first, ...more] = [...signatures].filter((key) => !there.has(key));
    if (first !== undefined) {
      const expected = `in ${name} ${keyWords(first)}${andMore(more)}`;
      violations.push(violationBy(event, 'signature_missing', { expected }));
    }
  }
  return violations;
}

const WELL_FORMED = 'a certificate that can be read, or a hash or key of a known type and its size';

/** Bytes of an entry that is no certificate: a hash, a hash with a time of 16 bytes, or an RSA modulus. */
const SIZES: ReadonlyMap<string, number> = new Map([
  [SIGNATURE_TYPES.sha1, 20],
  [SIGNATURE_TYPES.sha224, 28],
  [SIGNATURE_TYPES.sha256, 32],
  [SIGNATURE_TYPES.sha384, 48],
  [SIGNATURE_TYPES.sha512, 64],
  [SIGNATURE_TYPES.rsa2048, 256],
  [SIGNATURE_TYPES.rsa2048Sha256, 256],
  [SIGNATURE_TYPES.rsa2048Sha1, 256],
  [SIGNATURE_TYPES.x509Sha256, 48],
  [SIGNATURE_TYPES.x509Sha384, 64],
  [SIGNATURE_TYPES.x509Sha512, 80],
]);

/** A listed certificate is known by its bytes and need not be one that is read here. */
function isWellFormed({ list: { type }, signature: { data } }: Entry, isListed: boolean): boolean {
  if (type !== SIGNATURE_TYPES.x509) return SIZES.get(type) === data.length;
  return data[0] === 0x30 && (isListed || isCertificate(data));
}

function isCertificate(data: Uint8Array): boolean {
  try {
    return new X509Certificate(data).raw.length === data.length;
  } catch {
    return false;
  }
}

const andMore = (more: readonly unknown[]): string => (more.length > 0 ? ` and ${more.length} more` : '');

const entryWords = ({ signature }: Entry): string => keyWords(signatureKey(signature.owner, signature.data));

/** Hashes as they are, certificates by their hash. */
function keyWords(key: string): string {
  const [owner = '', data = ''] = key.split(':0x');
  return data.length <= 128
    ? `${data} of owner ${owner}`
    : `certificate with SHA-256 ${digestHex('sha256', Buffer.from(data, 'hex'))} of owner ${owner}`;
}
