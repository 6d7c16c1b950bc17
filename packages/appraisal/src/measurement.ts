import { digest, type HashAlgorithm } from '@keylime/core/digest';
import { type ImaEntry, type ImaProblem, isSignatureShaped } from '@keylime/ima/entry';
import { parseKeyBuffer } from '@keylime/ima/key-buffer';
import { showName } from '@keylime/ima/list-text';
import { IMA_PCR, type ImaLine } from '@keylime/ima/replay';
import { type DigestMap, includesDigest } from '@keylime/policies/digest-map';
import type { Excludes } from '@keylime/policies/excludes';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';

/** Why one entry of a measurement list was not accepted. `index` counts the entries of the whole list from 0. */
export type MeasurementFailure =
  | {
      readonly kind: 'ima_entry_malformed';
      readonly index: number;
      readonly problem: ImaProblem;
      readonly line: string;
    }
  | { readonly kind: 'ima_pcr_not_ten'; readonly index: number; readonly path: string; readonly actual: number }
  | { readonly kind: 'ima_violation'; readonly index: number; readonly path: string }
  /** `actual` is the list's column, `expected` what its fields hash to. */
  | (OfPath & { readonly kind: 'ima_template_hash_mismatch'; readonly actual: string; readonly expected: string })
  | (OfPath & { readonly kind: 'ima_path_unknown' })
  | (OfPath & {
      readonly kind: 'ima_digest_not_allowed';
      readonly actual: string;
      readonly expected: readonly string[];
    })
  /** `actual` is the entry's digest, `expected` that of its buffer; absent where its algorithm is not available. */
  | (OfPath & { readonly kind: 'ima_buffer_digest_mismatch'; readonly actual: string; readonly expected?: string })
  | (OfPath & { readonly kind: 'ima_key_unsupported'; readonly keyType: string })
  | (OfPath & { readonly kind: 'ima_signature_malformed' });

type OfPath = { readonly index: number; readonly path: string };

/** Reference values for single measurements. */
export type MeasurementRules = {
  readonly policy: RuntimePolicy;
  /** Digests accepted for `boot_aggregate` besides the policy's, from a boot log that matches the quoted PCRs. */
  readonly bootAggregates: readonly string[];
  /** What to do with entries whose file changed while it was measured: nothing certifies their name or digest. */
  readonly violations: 'accept' | 'fail';
};

export const BOOT_AGGREGATE = 'boot_aggregate';
const LONGEST_SHOWN_LINE = 300;
const MOST_SHOWN_DIGESTS = 16;

/**
 * Judges one replayed line in the order: readable, PCR, violation, template hash, then the rule of its template. An entry
 * that must be refused for several reasons gives the first one of each stage that was reached.
 */
export function judgeLine(line: ImaLine, rules: MeasurementRules): readonly MeasurementFailure[] {
  const { index, parsed } = line;
  if (!parsed.ok) {
    const text = showName(Buffer.from(line.line.subarray(0, LONGEST_SHOWN_LINE)).toString('latin1'));
    return [{ kind: 'ima_entry_malformed', index, problem: parsed.problem, line: text }];
  }
  const entry = parsed.value;
  const { path, pcr } = entry;
  const wrongPcr: readonly MeasurementFailure[] =
    pcr === IMA_PCR ? [] : [{ kind: 'ima_pcr_not_ten', index, path, actual: pcr }];
  if (line.violation) {
    return rules.violations === 'accept' ? wrongPcr : [...wrongPcr, { kind: 'ima_violation', index, path }];
  }
  const expected = line.computedHash ?? '';
  if (entry.templateHash !== expected) {
    return [...wrongPcr, { kind: 'ima_template_hash_mismatch', index, path, actual: entry.templateHash, expected }];
  }
  const refused = entry.buffer ? judgeBuffer(index, entry, entry.buffer, rules) : judgeFile(index, entry, rules);
  return refused ? [...wrongPcr, refused] : wrongPcr;
}

function judgeFile(index: number, entry: ImaEntry, rules: MeasurementRules): MeasurementFailure | undefined {
  const { path, fileDigest, signature } = entry;
  // Not even an excluded file may carry what is no signature: it shows a list that was not printed by a kernel.
  if (signature && !isSignatureShaped(signature)) return { kind: 'ima_signature_malformed', index, path };
  return judgeFileDigest(index, path, fileDigest.hex, rules);
}

/** The allow rule for files: listed digests, then excludes. Its order gives the same verdict and looks less often. */
export function judgeFileDigest(
  index: number,
  path: string,
  hex: string,
  { policy, bootAggregates }: MeasurementRules,
): MeasurementFailure | undefined {
  if (path === BOOT_AGGREGATE && bootAggregates.includes(hex)) return undefined;
  return judgeDigest(index, path, hex, policy.digests, policy.excludes);
}

function judgeDigest(
  index: number,
  path: string,
  hex: string,
  map: DigestMap,
  excludes: Excludes | undefined,
): MeasurementFailure | undefined {
  const allowed = map.get(path);
  if (allowed !== undefined && includesDigest(allowed, hex)) return undefined;
  if (excludes?.matches(path)) return undefined;
  if (allowed === undefined) return { kind: 'ima_path_unknown', index, path };
  const expected = [...allowed].slice(0, MOST_SHOWN_DIGESTS);
  return { kind: 'ima_digest_not_allowed', index, path, actual: hex, expected };
}

function judgeBuffer(
  index: number,
  entry: ImaEntry,
  buffer: Uint8Array,
  { policy }: MeasurementRules,
): MeasurementFailure | undefined {
  const { path, fileDigest } = entry;
  const expected = bufferDigest(fileDigest.algorithm, buffer);
  if (expected !== fileDigest.hex) {
    const common = { kind: 'ima_buffer_digest_mismatch', index, path, actual: fileDigest.hex } as const;
    return expected === undefined ? common : { ...common, expected };
  }
  const key = parseKeyBuffer(buffer);
  if (key === undefined) return judgeDigest(index, path, fileDigest.hex, policy.buffers, policy.excludes);
  const keyType = key.asymmetricKeyType ?? 'unknown';
  if (keyType !== 'rsa' && keyType !== 'ec') return { kind: 'ima_key_unsupported', index, path, keyType };
  if (policy.ignoredKeyrings.has('*') || policy.ignoredKeyrings.has(path)) return undefined;
  // Excludes are for files: an exclude that happens to match a keyring's name must not admit keys.
  return judgeDigest(index, path, fileDigest.hex, policy.keyrings, undefined);
}

/** Names of the kernel for the algorithms in which a buffer may be measured. */
const BUFFER_ALGORITHMS: ReadonlyMap<string, HashAlgorithm> = new Map([
  ['sha1', 'sha1'],
  ['sha256', 'sha256'],
  ['sha384', 'sha384'],
  ['sha512', 'sha512'],
  ['sm3', 'sm3_256'],
  ['sm3-256', 'sm3_256'],
  ['sm3_256', 'sm3_256'],
]);

function bufferDigest(name: string, buffer: Uint8Array): string | undefined {
  const algorithm = BUFFER_ALGORITHMS.get(name);
  return algorithm && digest(algorithm, buffer).toString('hex');
}
