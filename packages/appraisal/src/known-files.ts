import { type FileTemplate, type KnownLines, knownLines } from '@keylime/ima/known-lines';
import { someDigests } from '@keylime/policies/digest-map';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';

/** How much a policy was used, and what came of it. */
type Usage = { judged: number; built: boolean; known: KnownLines | undefined };

/**
 * Lists shorter than this are judged in a few milliseconds in any case. Services do that where other work waits, which is
 * no place for preparing a policy of a hundred thousand files.
 */
const WORTH_PREPARING_BYTES = 512 * 1024;

/** A policy never changes, so what follows from it can be kept as long as it is. */
const usages = new WeakMap<RuntimePolicy, Record<FileTemplate, Usage>>();

function usageOf(policy: RuntimePolicy, template: FileTemplate): Usage {
  const unused = (): Usage => ({ judged: 0, built: false, known: undefined });
  const usage = usages.get(policy) ?? { 'ima-ng': unused(), 'ima-sig': unused() };
  usages.set(policy, usage);
  return usage[template];
}

/** The template of the first line of `list`, if it is one that measures files and is in use. */
function templateOf(list: Uint8Array): FileTemplate | undefined {
  const head = Buffer.from(list.subarray(0, 200)).toString('latin1');
  return / (ima-ng|ima-sig) /.exec(head)?.[1] as FileTemplate | undefined;
}

/**
 * The files that `policy` lists, as lines in the template of `list`; `undefined` until the policy was used as often as
 * it lists files, since making this costs about as much as judging that many entries once, and until a long list comes.
 * Yields now and then.
 */
export function* knownFiles(policy: RuntimePolicy, list: Uint8Array): Generator<void, KnownLines | undefined> {
  const template = templateOf(list);
  if (template === undefined) return undefined;
  const usage = usageOf(policy, template);
  if (!usage.built && list.length >= WORTH_PREPARING_BYTES && usage.judged > 0 && usage.judged >= policy.digests.size) {
    usage.built = true;
    usage.known = yield* knownLines(() => filesOf(policy), { template, logHashAlgorithm: policy.logHashAlgorithm });
  }
  return usage.known;
}

/** Notes that `count` entries of `list` were judged by `policy`. */
export function countJudged(policy: RuntimePolicy, list: Uint8Array, count: number): void {
  const template = templateOf(list);
  if (template !== undefined) usageOf(policy, template).judged += count;
}

function* filesOf({ digests }: RuntimePolicy): Generator<readonly [path: string, hex: string]> {
  for (const [path, list] of digests) for (const hex of someDigests(list, Number.POSITIVE_INFINITY)) yield [path, hex];
}
