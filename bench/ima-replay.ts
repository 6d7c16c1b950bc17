import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { parseArgs, promisify } from 'node:util';
import { appraiseRuntimeIntegrity } from '@keylime/appraisal/runtime-integrity';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';

const EXCLUDES = Array.from({ length: 1000 }, (_, i) => `/var/lib/containers/storage/${i}/.*`);

/** Runs in which code is compiled and the policy prepared, not counted. */
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

/** A list of new files, each with its one digest in the policy unless it lies in a directory that is excluded. */
function makeCase(entries: number, excludes: readonly string[], excluded: boolean): Case {
  const measured = [measure('boot_aggregate', 'boot')];
  for (let i = 1; i < entries; i++) {
    const directory = excluded ? `/var/lib/containers/storage/${i % 1000}` : '/usr/lib/x86_64-linux-gnu';
    measured.push(measure(`${directory}/package-${hash('md5', String(i)).slice(0, 8)}/libthing-${i}.so.1`, `${i}`));
  }
  const quotedPcr = measured.reduce<Buffer>(
    (pcr, { extend }) => hash('sha256', Buffer.concat([pcr, extend]), 'buffer'),
    Buffer.alloc(32),
  );
  const listed = excluded ? measured.slice(0, 1) : measured;
  const digests = Object.fromEntries(listed.map(({ path, digest }) => [path, [digest]]));
  const policy = JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests, excludes });
  return { list: measured.map(({ line }) => line).join(''), quotedPcr, policy };
}

/** CPU time of this process, so that a busy machine does not change the result. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

function ours({ list, quotedPcr, policy }: Case, entries: number, runs: number): number {
  const decoded = decodeRuntimePolicy(policy);
  if (!decoded.ok) throw new Error(decoded.problem[0].message);
  const rates = Array.from({ length: runs + WARM_UP }, () => {
    const start = cpuSeconds();
    const { failureCount, certifiedEntries } = appraiseRuntimeIntegrity({
      list,
      firstEntry: 0,
      bank: 'sha256',
      quotedPcr,
      policy: decoded.value,
      violations: 'fail',
    });
    if (failureCount > 0 || certifiedEntries !== entries) throw new Error('the list was refused');
    return entries / (cpuSeconds() - start);
  });
  return Math.round(median(rates.slice(WARM_UP)));
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

const findPython = (): string | undefined =>
  [process.env.KEYLIME_PYTHON, 'test/interop/.installed/python/bin/python'].find(
    (path) => path !== undefined && existsSync(path),
  );

async function python(path: string, { list, quotedPcr, policy }: Case, entries: number, runs: number): Promise<number> {
  const running = promisify(execFile)(path, ['-c', PYTHON]);
  running.child.stdin?.end(JSON.stringify({ list, policy, pcr: quotedPcr.toString('hex'), entries, runs }));
  const { stdout } = await running;
  return Math.round(Number(stdout.trim().split('\n').at(-1)));
}

/**
 * Entries of a measurement list appraised per second of CPU time on one core: SHA-256 bank, SHA-1 column, a policy with
 * one digest per file, entries never seen before; with none and with 1,000 exclude patterns, and where an exclude decides
 * each entry. The existing verifier's function on the same lists in the same run.
 */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { entries: { type: 'string', default: '100000' }, runs: { type: 'string', default: '7' } },
    strict: false,
  });
  const entries = Number(values.entries);
  const runs = Number(values.runs);
  const cases = {
    listed: makeCase(entries, [], false),
    listedWith1000Excludes: makeCase(entries, EXCLUDES, false),
    excludedBy1000Excludes: makeCase(entries, EXCLUDES, true),
  };
  const entriesPerSecond = {
    listed: ours(cases.listed, entries, runs),
    listedWith1000Excludes: ours(cases.listedWith1000Excludes, entries, runs),
    excludedBy1000Excludes: ours(cases.excludedBy1000Excludes, entries, runs),
  };
  const path = findPython();
  const existing = path === undefined ? undefined : await python(path, cases.listed, entries, 3);
  return {
    benchmark: 'ima-replay',
    entries,
    excludes: EXCLUDES.length,
    listMegabytes: Number((cases.listed.list.length / 1e6).toFixed(1)),
    entriesPerSecond,
    excludesCost: Number((entriesPerSecond.listed / entriesPerSecond.listedWith1000Excludes).toFixed(2)),
    python:
      existing === undefined
        ? { notRun: 'set KEYLIME_PYTHON to a Python that has the package keylime, or run npm run interop' }
        : { entriesPerSecond: existing, ratio: Number((entriesPerSecond.listed / existing).toFixed(1)) },
  };
}
