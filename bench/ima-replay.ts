import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { appraiseRuntimeIntegrityInSteps, type RuntimeIntegrityEvidence } from '@keylime/appraisal/runtime-integrity';
import { LANES } from '@keylime/ima/extend-memory';
import { runSideBySide } from '@keylime/ima/side-by-side';
import { decodeRuntimePolicy, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import { findPython, NO_PYTHON } from './find-python.ts';
import type { Case, Likeness, Series } from './measurement-lists.ts';

const EXCLUDES = Array.from({ length: 1000 }, (_, i) => `/var/lib/containers/storage/${i}/.*`);

/** Runs that are not counted: code is compiled, and a policy that is used again is prepared. */
const WARM_UP = 5;

/** Lists of a series, made one by one in another process. */
function openSeries(series: Series) {
  const maker = fork(new URL('./measurement-lists.ts', import.meta.url), { serialization: 'advanced' });
  let last: Case | undefined;
  return {
    async next(): Promise<Case> {
      maker.send(series);
      const [made]: Case[] = await once(maker, 'message');
      if (made === undefined) throw new Error('no list was made');
      // The same policy is not sent again.
      last = last !== undefined && made.policy === '' ? { ...made, policy: last.policy } : made;
      return last;
    },
    close: () => maker.kill(),
  };
}

/** So that what decoding a policy left behind is not tidied up, by other threads, while something is measured. */
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

/** CPU seconds that lists took which wait for one thread, as the verifier's threads judge them. */
function appraised(cases: readonly Case[], policy: RuntimePolicy, entries: number): number {
  const evidence = cases.map(
    ({ list, quotedPcr }): RuntimeIntegrityEvidence => ({
      list,
      firstEntry: 0,
      bank: 'sha256',
      quotedPcr,
      policy,
      violations: 'fail',
    }),
  );
  let accepted = 0;
  const start = cpuSeconds();
  runSideBySide(evidence.map(appraiseRuntimeIntegrityInSteps), (_, result) => {
    if ('error' in result) throw result.error;
    const { failureCount, certifiedEntries } = result.value;
    if (failureCount === 0 && certifiedEntries === entries) accepted++;
  });
  const seconds = cpuSeconds() - start;
  if (accepted < cases.length) throw new Error('a list was refused');
  return seconds;
}

type Measured = { readonly rate: number; readonly last: Case };

/** Entries per second of lists that come alone. */
async function alone(series: Series, runs: number): Promise<Measured> {
  const { entries } = series;
  const lists = openSeries(series);
  let known: { readonly text: string; readonly policy: RuntimePolicy } | undefined;
  const rates: number[] = [];
  for (;;) {
    const one = await lists.next();
    if (known?.text !== one.policy) {
      known = { text: one.policy, policy: decoded(one.policy) };
      await tidyUp();
    }
    rates.push(entries / appraised([one], known.policy, entries));
    if (rates.length < WARM_UP + runs) continue;
    lists.close();
    return { rate: Math.round(median(rates.slice(WARM_UP))), last: one };
  }
}

/** Entries per second of all machines of the fleet together, from the first one on; their lists wait for the one thread. */
async function fleet(likeness: Likeness, machines: number, entries: number): Promise<Measured> {
  const lists = openSeries({ kind: 'fleet', likeness, machines, entries });
  let policy: RuntimePolicy | undefined;
  let seconds = 0;
  let group: Case[] = [];
  for (let left = machines; left > 0; left -= group.length) {
    group = [];
    while (group.length < Math.min(LANES, left)) group.push(await lists.next());
    policy ??= decoded((group[0] as Case).policy);
    seconds += appraised(group, policy, entries);
  }
  lists.close();
  const [last] = group;
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
  const listedWith = (excludes: readonly string[], excluded = false) =>
    alone({ kind: 'listed', entries, excludes, excluded }, runs);
  const { rate: listed, last } = await listedWith([]);
  const entriesPerSecond = {
    neverSeen: (await alone({ kind: 'neverSeen', entries }, runs)).rate,
    listed,
    listedWith1000Excludes: (await listedWith(EXCLUDES)).rate,
    excludedBy1000Excludes: (await listedWith(EXCLUDES, true)).rate,
  };
  const interleavedFleet = await fleet('interleaved', machines, fleetEntries);
  const commonStartFleet = await fleet('commonStart', machines, fleetEntries);
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
