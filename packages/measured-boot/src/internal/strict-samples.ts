import assert from 'node:assert/strict';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import type { BootViolation } from '../policy.ts';
import type { StrictReferenceJson } from '../reference-json.ts';
import { strict } from '../strict.ts';
import { referenceOf, vectorLog, verifiedBy } from './samples.ts';

/** What `strict` says of boots. For its tests. */

export const SECURE = verifiedBy(vectorLog('debian12-secureboot-vm'));
export const INSECURE = verifiedBy(vectorLog('debian12-uefi-vm'));
export const REFERENCE = referenceOf(SECURE);

export function judge(boot: VerifiedEventLog, reference: StrictReferenceJson = REFERENCE): readonly BootViolation[] {
  const decoded = strict.decodeReference(JSON.parse(JSON.stringify(reference)));
  assert(decoded.ok, JSON.stringify(decoded));
  return strict.evaluate(boot, decoded.value);
}

export const reasons = (boot: VerifiedEventLog, reference?: StrictReferenceJson): readonly string[] =>
  judge(boot, reference).map(({ reason }) => reason);
