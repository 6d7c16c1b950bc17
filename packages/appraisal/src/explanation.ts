import { parseImaLine } from '@keylime/ima/entry';
import type { DigestMap } from '@keylime/policies/digest-map';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { DigestMapName, MeasurementFailure } from './measurement.ts';

/** What helps an operator to understand why a digest was refused; absent members mean that there is nothing to say. */
export type Explanation = {
  /** The first entry of the same path in the part of the list that was judged, if that is another one. */
  readonly firstIndex?: number;
  /** Where that part begins, if not with the list: what was measured before was judged earlier, and is not remembered. */
  readonly judgedFrom?: number;
  /** Paths for which the policy lists the digest that was found, up to `MOST_PATHS`, and how many more there are. */
  readonly listedFor?: readonly string[];
  readonly listedForMore?: number;
  /** Package and version that the found digest came from. */
  readonly foundPackage?: string;
  /** Packages and versions that the expected digests came from. */
  readonly expectedPackages?: readonly string[];
};

type Unlisted = Extract<MeasurementFailure, { kind: 'ima_path_unknown' | 'ima_digest_not_allowed' }>;

const MOST_PATHS = 3;

const isUnlisted = <F extends { readonly kind: string }>(failure: F): failure is F & Unlisted =>
  failure.kind === 'ima_path_unknown' || failure.kind === 'ima_digest_not_allowed';

/**
 * Adds an explanation to failures that are about a digest. Looks through the list and the policy once, however many they
 * are, which is affordable because it is done for lists that are refused only.
 */
export function explain<F extends { readonly kind: string }>(
  failures: readonly F[],
  {
    lines,
    firstEntry,
    policy,
  }: {
    /** Those of the part of the list that was judged. */
    readonly lines: () => Iterable<Uint8Array>;
    readonly firstEntry: number;
    readonly policy: RuntimePolicy;
  },
): readonly F[] {
  const unlisted = failures.filter(isUnlisted);
  if (unlisted.length === 0) return failures;
  const listedFor = pathsOf(policy, unlisted);
  const firstIndexes = firstIndexesOf(new Set(unlisted.map(({ path }) => path)), lines(), firstEntry);
  return failures.map((failure) => {
    if (!isUnlisted(failure)) return failure;
    const firstIndex = firstIndexes.get(failure.path);
    const paths = listedFor.get(`${failure.map} ${failure.actual}`);
    const foundPackage = policy.packages.get(failure.actual)?.[0];
    const expected = failure.kind === 'ima_digest_not_allowed' ? failure.expected : [];
    const expectedPackages = [...new Set(expected.flatMap((hex) => policy.packages.get(hex) ?? []))];
    const explanation: Explanation = {
      ...(firstIndex !== undefined && firstIndex < failure.index && { firstIndex }),
      ...(firstEntry > 0 && { judgedFrom: firstEntry }),
      ...(paths && { listedFor: paths.first }),
      ...(paths && paths.count > MOST_PATHS && { listedForMore: paths.count - MOST_PATHS }),
      ...(foundPackage !== undefined && { foundPackage }),
      ...(expectedPackages.length > 0 && { expectedPackages }),
    };
    return Object.keys(explanation).length === 0 ? failure : { ...failure, explanation };
  });
}

type ListedPaths = { readonly first: string[]; count: number };

/** Paths by the digests of failures, as far as the policy lists them for any path. */
function pathsOf(policy: RuntimePolicy, failures: readonly Unlisted[]): ReadonlyMap<string, ListedPaths> {
  const maps: { readonly [name in DigestMapName]: DigestMap } = {
    digests: policy.digests,
    keyrings: policy.keyrings,
    'ima-buf': policy.buffers,
  };
  const found = new Map<string, ListedPaths>();
  for (const name of ['digests', 'keyrings', 'ima-buf'] as const) {
    const wanted = new Set(failures.filter(({ map }) => map === name).map(({ actual }) => actual));
    if (wanted.size === 0) continue;
    for (const [path, hex] of maps[name].namesWith(wanted)) {
      const paths = found.get(`${name} ${hex}`) ?? { first: [], count: 0 };
      if (paths.count++ < MOST_PATHS) paths.first.push(path);
      found.set(`${name} ${hex}`, paths);
    }
  }
  return found;
}

/** Indexes of the first entries of `paths`. */
function firstIndexesOf(
  paths: ReadonlySet<string>,
  lines: Iterable<Uint8Array>,
  firstEntry: number,
): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  let index = firstEntry;
  for (const line of lines) {
    if (found.size === paths.size) break;
    const parsed = parseImaLine(line);
    const path = parsed.ok ? parsed.value.path : undefined;
    if (path !== undefined && paths.has(path) && !found.has(path)) found.set(path, index);
    index++;
  }
  return found;
}
