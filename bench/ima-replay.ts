import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { appraiseRuntimeIntegrity } from '@keylime/appraisal/runtime-integrity';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import { findPython, NO_PYTHON } from './find-python.ts';

const EXCLUDES = Array.from({ length: 1000 }, (_, i) => `/var/lib/containers/storage/${i}/.*`);

/** Runs that are not counted: code is compiled, and a policy that is used again is prepared. */
const WARM_UP = 5;

type Case = { readonly list: string; readonly quotedPcr: Buffer; readonly policy: string };

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
  const list = Buffer.concat(measured.map(({ line }) => Buffer.from(line))).toString();
  return { list, quotedPcr: replayed(measured), policy };
}

const replayed = (measured: readonly { readonly extend: Buffer }[]): Buffer =>
  measured.reduce<Buffer>(
    (pcr, { extend }) => hash('sha256', Buffer.concat([pcr, extend]), 'buffer'),
    Buffer.alloc(32),
  );

/** Where the entries that only one machine has lie in its list. */
type Likeness = 'interleaved' | 'commonStart';

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

/** So that what a hundred megabytes of test data left behind is not tidied up, by other threads, while something is measured. */
async function tidyUp(): Promise<void> {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  await setTimeout(300);
}

/** CPU time of this process, so that a busy machine does not change the result. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

function decoded(text: string): RuntimePolicy {
  const policy = decodeRuntimePolicy(text);
  if (!policy.ok) throw new Error(policy.problem[0].message);
  return policy.value;
}

/** CPU seconds that a list took. */
function appraised({ list, quotedPcr }: Case, policy: RuntimePolicy, entries: number): number {
  const start = cpuSeconds();
  const { failureCount, certifiedEntries } = appraiseRuntimeIntegrity({
    list,
    firstEntry: 0,
    bank: 'sha256',
    quotedPcr,
    policy,
    violations: 'fail',
  });
  if (failureCount > 0 || certifiedEntries !== entries) throw new Error('the list was refused');
  return cpuSeconds() - start;
}

async function ours(
  cases: Generator<Case>,
  entries: number,
  runs: number,
): Promise<{ readonly rate: number; readonly last: Case }> {
  let known: { readonly text: string; readonly policy: RuntimePolicy } | undefined;
  const rates: number[] = [];
  for (const one of cases) {
    if (known?.text !== one.policy) {
      known = { text: one.policy, policy: decoded(one.policy) };
      await tidyUp();
    }
    const { policy } = known;
    rates.push(entries / appraised(one, policy, entries));
    if (rates.length === WARM_UP + runs) return { rate: Math.round(median(rates.slice(WARM_UP))), last: one };
  }
  throw new Error('--runs must be at least 1');
}

/** Entries per second of all machines of the fleet together, from the first one on. */
function fleet(likeness: Likeness, machines: number, entries: number): { readonly rate: number; readonly last: Case } {
  let policy: RuntimePolicy | undefined;
  let seconds = 0;
  let last: Case | undefined;
  for (last of makeFleet(likeness, machines, entries)) {
    policy ??= decoded(last.policy);
    seconds += appraised(last, policy, entries);
  }
  if (last === undefined) throw new Error('--machines must be at least 1');
  return { rate: Math.round((machines * entries) / seconds), last };
}

/** The existing verifier's function on the same list and policy, parsed beforehand as well. */
const PYTHON = `
import json, sys, time
from keylime.common.algorithms import Hash
from keylime.ima import ima
rates = []
task = json.load(sys.stdin)
lines, policy = task["list"].split("\\n"), json.loads(task["policy"])
for _ in range(task["runs"] + 1):
    start = time.process_time()
    _, failure = ima.process_measurement_list(None, lines, policy, pcrval=task["pcr"], hash_alg=Hash.SHA256)
    if failure: raise SystemExit("the list was refused")
    rates.append(task["entries"] / (time.process_time() - start))
print(json.dumps(sorted(rates[1:])[task["runs"] // 2]))
`;

async function python(path: string, { list, quotedPcr, policy }: Case, entries: number, runs: number): Promise<number> {
  const running = promisify(execFile)(path, ['-c', PYTHON]);
  running.child.stdin?.end(JSON.stringify({ list, policy, pcr: quotedPcr.toString('hex'), entries, runs }));
  const { stdout } = await running;
  return Math.round(Number(stdout.trim().split('\n').at(-1)));
}

/**
 * Entries of a measurement list appraised per second of CPU time on one core: SHA-256 bank, SHA-1 column, a policy with
 * one digest per file: entries and policy never seen before; entries of a policy that was used before, in a new order, with
 * none and with 1,000 exclude patterns, and where an exclude decides each entry. The existing verifier's function on the same lists in the same run.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      entries: { type: 'string', default: '100000' },
      runs: { type: 'string', default: '7' },
      machines: { type: 'string', default: '1000' },
      'fleet-entries': { type: 'string', default: '10000' },
    },
    strict: false,
  });
  const entries = Number(values.entries);
  const runs = Number(values.runs);
  const machines = Number(values.machines);
  const fleetEntries = Number(values['fleet-entries']);
  const { rate: listed, last } = await ours(makeCases(entries, [], false), entries, runs);
  const entriesPerSecond = {
    neverSeen: (await ours(makeFreshCases(entries), entries, runs)).rate,
    listed,
    listedWith1000Excludes: (await ours(makeCases(entries, EXCLUDES, false), entries, runs)).rate,
    excludedBy1000Excludes: (await ours(makeCases(entries, EXCLUDES, true), entries, runs)).rate,
  };
  const interleavedFleet = fleet('interleaved', machines, fleetEntries);
  const commonStartFleet = fleet('commonStart', machines, fleetEntries);
  const path = findPython();
  const existing = path === undefined ? undefined : await python(path, last, entries, 3);
  const existingFleet = path === undefined ? undefined : await python(path, interleavedFleet.last, fleetEntries, 21);
  return {
    benchmark: 'ima-replay',
    entries,
    excludes: EXCLUDES.length,
    listMegabytes: Number((last.list.length / 1e6).toFixed(1)),
    entriesPerSecond,
    excludesCost: Number((entriesPerSecond.listed / entriesPerSecond.listedWith1000Excludes).toFixed(2)),
    fleet: {
      machines,
      entriesEach: fleetEntries,
      interleavedEntriesPerSecond: interleavedFleet.rate,
      commonStartEntriesPerSecond: commonStartFleet.rate,
    },
    python:
      existing === undefined || existingFleet === undefined
        ? NO_PYTHON
        : {
            entriesPerSecond: existing,
            neverSeenRatio: Number((entriesPerSecond.neverSeen / existing).toFixed(1)),
            ratio: Number((entriesPerSecond.listed / existing).toFixed(1)),
            fleetEntriesPerSecond: existingFleet,
            interleavedRatio: Number((interleavedFleet.rate / existingFleet).toFixed(1)),
            commonStartRatio: Number((commonStartFleet.rate / existingFleet).toFixed(1)),
          },
  };
}
