import type { Steps } from '@keylime/core/steps';
import { type FileTemplate, KnownLines, lineBytes } from '@keylime/ima/known-lines';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';

/** How much a policy was used, what its files are as lines, and what came of it. */
type Usage = { judgedBytes: number; size?: FilesSize; known?: KnownLines | undefined; isPrepared: boolean };

type FilesSize = { readonly count: number; readonly characters: number };

/**
 * Lists shorter than this are judged in a few milliseconds in any case. Services do that where other work waits, which is
 * no place for preparing a policy of a hundred thousand files.
 */
const WORTH_PREPARING_BYTES = 512 * 1024;

const FILES_PER_STEP = 4096;

/** A policy never changes, so what follows from it can be kept as long as it is. */
const usages = new WeakMap<RuntimePolicy, Record<FileTemplate, Usage>>();

function usageOf(policy: RuntimePolicy, template: FileTemplate): Usage {
  const unused = (): Usage => ({ judgedBytes: 0, isPrepared: false });
  let usage = usages.get(policy);
  if (usage === undefined) {
    usage = { 'ima-ng': unused(), 'ima-sig': unused() };
    usages.set(policy, usage);
  }
  return usage[template];
}

/** The template of the first line of `list`, if it is one that measures files and is in use. */
function templateOf(list: string | Uint8Array): FileTemplate | undefined {
  const start = list.slice(0, 200);
  const head = typeof start === 'string' ? start : Buffer.from(start).toString('latin1');
  return / (ima-ng|ima-sig) /.exec(head)?.[1] as FileTemplate | undefined;
}

/**
 * The files that `policy` lists, as lines in the template of `list`; `undefined` until as much was judged as it lists files,
 * since making this costs about as much as judging that once, and until a long list comes. Yields now and then.
 */
export function* knownFiles(policy: RuntimePolicy, list: string | Uint8Array): Steps<KnownLines | undefined> {
  const template = templateOf(list);
  if (template === undefined) return undefined;
  const usage = usageOf(policy, template);
  if (usage.isPrepared || list.length < WORTH_PREPARING_BYTES || usage.judgedBytes === 0) return usage.known;
  const form = { template, logHashAlgorithm: policy.logHashAlgorithm };
  usage.size ??= yield* sizeOf(policy);
  const { count, characters } = usage.size;
  const bytes = characters + count * lineBytes(form);
  // Of lists that are judged side by side another one may have begun in between.
  if (usage.isPrepared || usage.judgedBytes < bytes) return usage.known;
  usage.isPrepared = true;
  const known = KnownLines.make(count, characters, form);
  if (known !== undefined) yield* addFiles(policy, known);
  usage.known = known;
  return known;
}

/** Notes that `list` was judged by `policy`. */
export function countJudged(policy: RuntimePolicy, list: string | Uint8Array): void {
  const template = templateOf(list);
  if (template !== undefined) usageOf(policy, template).judgedBytes += list.length;
}

function* sizeOf({ digests }: RuntimePolicy): Steps<FilesSize> {
  let count = 0;
  let characters = 0;
  let names = 0;
  for (const [path, list] of digests) {
    for (const hex of list) {
      count++;
      characters += path.length + hex.length;
    }
    if (++names % FILES_PER_STEP === 0) yield;
  }
  return { count, characters };
}

function* addFiles({ digests }: RuntimePolicy, known: KnownLines): Steps<void> {
  let names = 0;
  for (const [path, list] of digests) {
    for (const hex of list) known.add(path, hex);
    if (++names % FILES_PER_STEP === 0) yield;
  }
  known.finish();
}
