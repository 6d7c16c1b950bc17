import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Combination, Site } from './harness.ts';
import { type Installation, install } from './install.ts';
import { launcher, type Maker, type Model, PARTS, type Part } from './launchers.ts';
import { stopAllPrograms } from './processes.ts';
import { type ManufacturedTpm, manufactureTpm } from './software-tpm.ts';
import { playStory, type Step } from './story.ts';

const USAGE = `Runs registrar, verifier, tenant and agent together, each ours or the existing one.

  npm run interop -- [options]
  --only theirs|ours       only the combination in which all parts are of one maker
  --filter PART=MAKER,...  only combinations with these makers, e.g. agent=ours,verifier=theirs
  --model pull|push        only combinations in which the verifier, or the agent, starts attestations
  --json                   one JSON object on stdout instead of the table
  --keep                   keep the folder with configuration, databases and logs
  --no-install             use what is installed already
`;

type Run = { readonly model: Model; readonly combination: Combination };

type Result = Run & {
  readonly outcome: 'passed' | 'failed' | 'not run';
  /** Why it failed or was not run. */
  readonly reason?: string;
  readonly ms?: number;
  readonly steps?: readonly Step[];
  readonly logs?: Readonly<Record<string, string>>;
};

/** All sixteen; first the pure ones, then those with one stranger: the first failure tells the most. */
function pullCombinations(): readonly Combination[] {
  const all = Array.from({ length: 2 ** PARTS.length }, (_, bits): Combination => {
    const maker = (part: Part): Maker => ((bits >> PARTS.indexOf(part)) & 1 ? 'ours' : 'theirs');
    return {
      registrar: maker('registrar'),
      verifier: maker('verifier'),
      tenant: maker('tenant'),
      agent: maker('agent'),
    };
  });
  const strangers = (combination: Combination) => {
    const ours = PARTS.filter((part) => combination[part] === 'ours').length;
    return Math.min(ours, PARTS.length - ours);
  };
  return all.toSorted((a, b) => strangers(a) - strangers(b));
}

/** What agent and verifier do with one another, and each part of one maker among those of the other. */
function pushCombinations(): readonly Combination[] {
  const allOf = (maker: Maker): Combination => ({ registrar: maker, verifier: maker, tenant: maker, agent: maker });
  const [ours, theirs] = [allOf('ours'), allOf('theirs')];
  return [
    theirs,
    ours,
    { ...theirs, agent: 'ours' },
    { ...ours, verifier: 'theirs' },
    { ...ours, agent: 'theirs' },
    { ...ours, tenant: 'theirs' },
    { ...theirs, verifier: 'ours' },
  ];
}

const runs = (): readonly Run[] => [
  ...pullCombinations().map((combination): Run => ({ model: 'pull', combination })),
  ...pushCombinations().map((combination): Run => ({ model: 'push', combination })),
];

function chooser(options: {
  readonly only?: string | undefined;
  readonly filter?: string | undefined;
  readonly model?: string | undefined;
}): (run: Run) => boolean {
  const { only, filter, model: wantedModel } = options;
  if (wantedModel !== undefined && wantedModel !== 'pull' && wantedModel !== 'push') {
    throw new TypeError('--model takes pull or push');
  }
  if (only !== undefined && only !== 'ours' && only !== 'theirs') throw new TypeError('--only takes ours or theirs');
  const wanted = (filter?.split(',') ?? []).map((text) => {
    const [name, maker] = text.split('=');
    const part = PARTS.find((known) => known === name);
    if (!part || (maker !== 'ours' && maker !== 'theirs')) throw new TypeError(`--filter does not know "${text}"`);
    return { part, maker };
  });
  return ({ model, combination }) =>
    (wantedModel === undefined || model === wantedModel) &&
    (only === undefined || PARTS.every((part) => combination[part] === only)) &&
    wanted.every(({ part, maker }) => combination[part] === maker);
}

/** Why a combination cannot be run here, or `undefined`. */
function obstacle({ model, combination }: Run, installation: Installation): string | undefined {
  if (installation.softwareTpm) return `no software TPM: ${installation.softwareTpm}`;
  for (const part of PARTS) {
    const launch = launcher(part, combination[part], model);
    if (!('missing' in launch)) continue;
    const refusal =
      combination[part] === 'ours' || (part === 'agent' && model === 'push')
        ? undefined
        : installation[part === 'agent' ? 'rust' : 'python'];
    return refusal ? `${launch.missing}: ${refusal}` : launch.missing;
  }
  return undefined;
}

const describe = ({ model, combination }: Run) =>
  [model, ...PARTS.map((part) => combination[part])].map((word) => word.padEnd(9)).join(' ');

function table(results: readonly Result[]): string {
  const lines = results.map((result) => {
    const { outcome, reason, ms } = result;
    const told = outcome === 'passed' ? `${((ms ?? 0) / 1000).toFixed(1)} s` : (reason?.split('\n')[0] ?? '');
    return `${describe(result)} ${outcome}${told ? `: ${told}` : ''}`;
  });
  return [['model', ...PARTS].map((word) => word.padEnd(9)).join(' '), ...lines].join('\n');
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    filter: { type: 'string' },
    model: { type: 'string' },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    'no-install': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const say = (line: string) => console.error(line);

async function main(): Promise<number> {
  const chosen = runs().filter(chooser(values));
  const theirs = chosen.some(({ combination }) => Object.values(combination).includes('theirs'));
  const installation: Installation = values['no-install']
    ? { softwareTpm: undefined, python: undefined, rust: undefined }
    : await install({ theirs, say });

  const folder = await mkdtemp(join(tmpdir(), 'keylime-interop-'));
  let site: Site | undefined;
  let stopping = false;
  const interrupted = async () => {
    stopping = true;
    await site?.[Symbol.asyncDispose]();
    stopAllPrograms();
    await rm(folder, { recursive: true, force: true });
    process.exit(130);
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);

  let tpm: ManufacturedTpm | undefined;
  const results: Result[] = [];
  for (const run of chosen) {
    const { model, combination } = run;
    const reason = obstacle(run, installation);
    if (reason !== undefined) {
      results.push({ ...run, outcome: 'not run', reason });
      continue;
    }
    tpm ??= await manufactureTpm(join(folder, 'tpm'));
    const name = [model, ...PARTS.map((part) => `${part}-${combination[part]}`)].join('_');
    const story = await playStory({ folder: join(folder, name), tpm, combination, model }, (opened) => {
      site = opened;
    });
    if (stopping) return 130;
    const failed = story.steps.find((step) => step.problem !== undefined);
    const ms = story.steps.reduce((sum, step) => sum + step.ms, 0);
    const { steps, logs } = story;
    results.push(
      failed
        ? {
            ...run,
            outcome: 'failed',
            reason: `${failed.step}: ${failed.problem}`,
            ms,
            steps,
            ...(logs && { logs }),
          }
        : { ...run, outcome: 'passed', ms, steps },
    );
    const last = results.at(-1);
    say(`${describe(run)} ${last?.outcome}${last?.reason ? `: ${last.reason}` : ''}`);
    for (const [part, tail] of Object.entries(logs ?? {})) say(`--- end of the log of ${part}\n${tail}`);
  }
  const count = (outcome: Result['outcome']) => results.filter((result) => result.outcome === outcome).length;
  const [passed, failed, notRun] = [count('passed'), count('failed'), count('not run')];
  if (values.keep || failed > 0) say(`files and logs: ${folder}`);
  else await rm(folder, { recursive: true, force: true });
  if (values.json) console.log(JSON.stringify({ passed, failed, notRun, results }, undefined, 2));
  else console.log(`${table(results)}\n${passed} passed, ${failed} failed, ${notRun} not run`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

if (values.help) console.log(USAGE);
else process.exitCode = await main();
