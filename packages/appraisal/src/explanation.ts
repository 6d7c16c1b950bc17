import { parseImaLine } from '@keylime/ima/entry';
import { encodeUtf8 } from '@keylime/ima/list-text';
import { type DigestMap, someDigests } from '@keylime/policies/digest-map';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { DigestMapName, MeasurementFailure } from './measurement.ts';

/** What helps an operator to understand why a digest was refused; absent members mean that there is nothing to say. */
export type Explanation = {
  /** The first entry of the same path in the part of the list that was judged, if that is another one. */
  readonly firstIndex?: number;
  /** Paths for which the policy lists the digest that was found, up to `MOST_PATHS`. */
  readonly listedFor?: readonly string[];
  /** Package and version that the found digest came from. */
  readonly foundPackage?: string;
  /** Packages and versions that the expected digests came from. */
  readonly expectedPackages?: readonly string[];
};

type Unlisted = Extract<MeasurementFailure, { kind: 'ima_path_unknown' | 'ima_digest_not_allowed' }>;

const MOST_PATHS = 3;
const MOST_EXPLAINED = 20;

const isUnlisted = <F extends { readonly kind: string }>(failure: F): failure is F & Unlisted =>
  failure.kind === 'ima_path_unknown' || failure.kind === 'ima_digest_not_allowed';

/**
 * Adds an explanation to the first failures that are about a digest. Looks through the list and the policy once, which is
 * affordable because it is done for lists that are refused only.
 */
export function explain<F extends { readonly kind: string }>(
  failures: readonly F[],
  {
    list,
    firstEntry,
    policy,
  }: { readonly list: Uint8Array; readonly firstEntry: number; readonly policy: RuntimePolicy },
): readonly F[] {
  const explained = failures.filter(isUnlisted).slice(0, MOST_EXPLAINED);
  if (explained.length === 0) return failures;
  const listedFor = pathsOf(policy, explained);
  return failures.map((failure) => {
    if (!isUnlisted(failure) || !explained.includes(failure)) return failure;
    const firstIndex = firstIndexOf(failure.path, list, firstEntry);
    const paths = listedFor.get(`${failure.map} ${failure.actual}`);
    const foundPackage = policy.packages.get(failure.actual);
    const expected = failure.kind === 'ima_digest_not_allowed' ? failure.expected : [];
    const expectedPackages = [...new Set(expected.flatMap((hex) => policy.packages.get(hex) ?? []))];
    const explanation: Explanation = {
      ...(firstIndex !== undefined && firstIndex < failure.index && { firstIndex }),
      ...(paths && { listedFor: paths }),
      ...(foundPackage !== undefined && { foundPackage }),
      ...(expectedPackages.length > 0 && { expectedPackages }),
    };
    return Object.keys(explanation).length === 0 ? failure : { ...failure, explanation };
  });
}

/** Paths by the digests of failures, as far as the policy lists them for any path. */
function pathsOf(policy: RuntimePolicy, failures: readonly Unlisted[]): ReadonlyMap<string, readonly string[]> {
  const maps: { readonly [name in DigestMapName]: DigestMap } = {
    digests: policy.digests,
    keyrings: policy.keyrings,
    'ima-buf': policy.buffers,
  };
  const found = new Map<string, string[]>();
  for (const name of ['digests', 'keyrings', 'ima-buf'] as const) {
    const wanted = new Set(failures.filter(({ map }) => map === name).map(({ actual }) => actual));
    if (wanted.size === 0) continue;
    for (const [path, digests] of maps[name]) {
      for (const hex of someDigests(digests, Number.POSITIVE_INFINITY)) {
        if (!wanted.has(hex)) continue;
        const paths = found.get(`${name} ${hex}`) ?? [];
        if (paths.length < MOST_PATHS) found.set(`${name} ${hex}`, [...paths, path]);
      }
    }
  }
  return found;
}

/**
 * Index of the first entry of `path`. A name is searched for as bytes, and only lines that hold it are read, each once,
 * however often it stands there: a line may be as long as the list.
 */
function firstIndexOf(path: string, list: Uint8Array, firstEntry: number): number | undefined {
  const name = encodeUtf8(` ${path}`);
  const bytes = Buffer.from(list.buffer, list.byteOffset, list.length);
  for (let from = 0; ; ) {
    const at = bytes.indexOf(name, from);
    if (at < 0) return undefined;
    const start = at === 0 ? 0 : bytes.lastIndexOf(NEWLINE, at - 1) + 1;
    const newline = bytes.indexOf(NEWLINE, at);
    const end = newline < 0 ? bytes.length : newline;
    const parsed = parseImaLine(bytes.subarray(start, end));
    if (parsed.ok && parsed.value.path === path) return firstEntry + lineNumber(bytes, start);
    from = end;
  }
}

const NEWLINE = 0x0a;

/** How many lines that are not blank end before `offset`. */
function lineNumber(bytes: Buffer, offset: number): number {
  let count = 0;
  for (let start = 0; start < offset; ) {
    const end = bytes.indexOf(NEWLINE, start);
    if (end > start) count++;
    start = end + 1;
  }
  return count;
}
