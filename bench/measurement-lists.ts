import { hash } from 'node:crypto';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';

/** A list, what PCR 10 is after it, and the text of the policy by which it passes. */
export type Case = { readonly list: string; readonly quotedPcr: Buffer; readonly policy: string };

/** Fields and both hashes of an `ima-ng` entry, made without the code that is measured. */
function measure(path: string, content: string) {
  const digest = hash('sha256', content);
  const name = Buffer.from(`${path}\0`);
  const input = Buffer.alloc(48 + name.length);
  input.writeUInt32LE(40, 0);
  input.write('sha256:\0', 4, 'latin1');
  input.write(digest, 12, 'hex');
  input.writeUInt32LE(name.length, 44);
  name.copy(input, 48);
  return {
    path,
    digest,
    line: `10 ${hash('sha1', input)} ima-ng sha256:${digest} ${path}\n`,
    extend: hash('sha256', input, 'buffer'),
  };
}

/** Lists of which each has files of its own and its own policy with one digest of each: nothing of it was ever seen. */
function* makeFreshCases(entries: number): Generator<Case> {
  for (let run = 0; ; run++) {
    const boot = measure('boot_aggregate', `boot ${run}`);
    const files = Array.from({ length: entries - 1 }, (_, i) =>
      measure(
        `/usr/lib/x86_64-linux-gnu/${hash('md5', `${run} ${i}`).slice(0, 8)}/libthing-${i}.so.${run}`,
        `${run} ${i}`,
      ),
    );
    const digests = Object.fromEntries([boot, ...files].map(({ path, digest }) => [path, [digest]]));
    yield caseOf([boot, ...files], JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests }));
  }
}

/**
 * Lists of the same files under one policy that was used before, each in an order of its own; each file has its one digest in
 * the policy unless it lies in a directory that is excluded.
 */
function* makeCases(entries: number, excludes: readonly string[], excluded: boolean): Generator<Case> {
  const boot = measure('boot_aggregate', 'boot');
  const files = Array.from({ length: entries - 1 }, (_, i) => {
    const directory = excluded ? `/var/lib/containers/storage/${i % 1000}` : '/usr/lib/x86_64-linux-gnu';
    return measure(`${directory}/package-${hash('md5', String(i)).slice(0, 8)}/libthing-${i}.so.1`, `${i}`);
  });
  const listed = excluded ? [boot] : [boot, ...files];
  const digests = Object.fromEntries(listed.map(({ path, digest }) => [path, [digest]]));
  const policy = JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests, excludes });
  for (let run = 1; ; run++) {
    const first = Math.floor(entries * ((run * 0.618) % 1));
    yield caseOf([boot, ...files.slice(first), ...files.slice(0, first)], policy);
  }
}

/** As a list arrives, in one piece. */
function caseOf(measured: readonly ReturnType<typeof measure>[], policy: string): Case {
  return { list: measured.map(({ line }) => line).join(''), quotedPcr: replayed(measured), policy };
}

const replayed = (measured: readonly { readonly extend: Buffer }[]): Buffer =>
  measured.reduce<Buffer>(
    (pcr, { extend }) => hash('sha256', Buffer.concat([pcr, extend]), 'buffer'),
    Buffer.alloc(32),
  );

/** Where the entries that only one machine has lie in its list. */
export type Likeness = 'interleaved' | 'commonStart';

/**
 * Machines that boot the same image: nine tenths of each list are files of the image, the others lie in a directory that is
 * excluded. `commonStart`: all measure the image in the same order, and then their own files. `interleaved`: their own files
 * lie in between, from the first entries on, and files of the image are measured in a slightly different order. The files
 * of the image stand in the policy in another order.
 */
function* makeFleet(likeness: Likeness, machines: number, entries: number): Generator<Case> {
  const image = Array.from({ length: Math.round(0.9 * entries) - 1 }, (_, i) =>
    measure(`/usr/lib/x86_64-linux-gnu/package-${hash('md5', String(i)).slice(0, 8)}/libthing-${i}.so.1`, `${i}`),
  );
  const boot = measure('boot_aggregate', 'boot');
  const inPolicy = [boot, ...image].toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
  const digests = Object.fromEntries(inPolicy.map(({ path, digest }) => [path, [digest]]));
  const policy = JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests, excludes: ['/var/lib/.*'] });
  for (let machine = 0; machine < machines; machine++) {
    const own = Array.from({ length: entries - 1 - image.length }, (_, i) =>
      measure(`/var/lib/service-${machine}/run/state-of-this-machine-${i}`, `${machine} ${i}`),
    );
    yield caseOf(
      [boot, ...(likeness === 'commonStart' ? [...image, ...own] : interleaved(image, own, machine))],
      policy,
    );
  }
}

function interleaved<T>(image: readonly T[], own: readonly T[], machine: number): T[] {
  const shuffled = image.map((_, i) => image[i ^ (machine & 7)] ?? image[i]) as T[];
  const apart = Math.floor(image.length / own.length);
  return own.flatMap((one, i) => [
    one,
    ...shuffled.slice(i * apart, i === own.length - 1 ? undefined : (i + 1) * apart),
  ]);
}

/** The lists that are measured, by what is asked for. */
export type Series =
  | { readonly kind: 'neverSeen'; readonly entries: number }
  | {
      readonly kind: 'listed';
      readonly entries: number;
      readonly excludes: readonly string[];
      readonly excluded: boolean;
    }
  | { readonly kind: 'fleet'; readonly likeness: Likeness; readonly machines: number; readonly entries: number };

function casesOf(series: Series): Generator<Case> {
  switch (series.kind) {
    case 'neverSeen':
      return makeFreshCases(series.entries);
    case 'listed':
      return makeCases(series.entries, series.excludes, series.excluded);
    case 'fleet':
      return makeFleet(series.likeness, series.machines, series.entries);
  }
}

// In a process of its own, so that what making them leaves behind is tidied up there. Sends one list for each message.
if (process.send !== undefined) {
  let cases: Generator<Case> | undefined;
  let lastPolicy: string | undefined;
  process.on('message', (series: Series) => {
    cases ??= casesOf(series);
    const { value } = cases.next();
    // A policy is sent once.
    process.send?.(value.policy === lastPolicy ? { ...value, policy: '' } : value);
    lastPolicy = value.policy;
  });
}
