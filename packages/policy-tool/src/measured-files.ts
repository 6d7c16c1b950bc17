import { BOOT_AGGREGATE } from '@keylime/appraisal/boot-aggregate';
import { isHashAlgorithm } from '@keylime/core/digest';
import { type ImaEntry, parseImaLine } from '@keylime/ima/entry';
import { showName } from '@keylime/ima/list-text';
import { parseMeasuredKey } from '@keylime/ima/public-key';
import type { AlgorithmSource } from './digest-algorithm.ts';
import { addDigest, type PolicyDraft } from './policy-draft.ts';
import type { Skipped } from './skipped.ts';

export type MeasurementListOptions = {
  /** Take the keys of `ima-buf` entries into the policy's keyrings. */
  readonly keyrings: boolean;
  /** Take the other `ima-buf` entries into the policy. */
  readonly buffers: boolean;
};

/**
 * Adds what a measurement list shows to a policy: the digests of all files, and of keys and buffers if that is wanted.
 * Violations name no content and are left out, as are lines that cannot be read. A list that does not begin with
 * `boot_aggregate` is none of a whole boot, and has no algorithm.
 */
export function importMeasurementList(
  lines: Iterable<Uint8Array>,
  draft: PolicyDraft,
  options: MeasurementListOptions,
  skipped: Skipped,
): readonly AlgorithmSource[] {
  let source: AlgorithmSource | undefined;
  let index = 0;
  for (const line of lines) {
    const parsed = parseImaLine(line);
    source ??= {
      name: 'IMA measurement list',
      algorithm: parsed.ok ? bootAggregateAlgorithm(parsed.value) : undefined,
    };
    if (source.algorithm === undefined) return [source];
    if (parsed.ok) importEntry(parsed.value, draft, options, skipped);
    else {
      const text = showName(Buffer.from(line.subarray(0, 200)).toString('latin1'));
      skipped.failed(`lines of the measurement list that cannot be read (${parsed.problem})`, `${index}: ${text}`);
    }
    index++;
  }
  // An empty list, such as /dev/null, says nothing.
  return source === undefined ? [] : [source];
}

function bootAggregateAlgorithm({ path, violation, fileDigest, buffer }: ImaEntry) {
  const { algorithm } = fileDigest;
  return path === BOOT_AGGREGATE && !violation && buffer === undefined && isHashAlgorithm(algorithm)
    ? algorithm
    : undefined;
}

function importEntry(
  { path, fileDigest, violation, buffer }: ImaEntry,
  draft: PolicyDraft,
  { keyrings, buffers }: MeasurementListOptions,
  skipped: Skipped,
): void {
  const { hex } = fileDigest;
  if (violation) skipped.left('violations in the measurement list, which name no content', path);
  // A policy has no digests shorter than SHA-1's.
  else if (hex.length < 40) skipped.failed('MD5 digests in the measurement list', path);
  else if (buffer === undefined) addDigest(draft.digests, path, hex);
  else if (parseMeasuredKey(buffer).ok) {
    if (keyrings && !draft.ignoredKeyrings.has(path)) addDigest(draft.keyrings, path, hex);
  } else if (buffers) addDigest(draft.buffers, path, hex);
}
