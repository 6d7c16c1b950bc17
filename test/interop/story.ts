import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Combination, openSite, type Site, type SiteOptions } from './harness.ts';
import { PARTS, ROOT } from './launchers.ts';
import { type Finished, logTail, runProgram, waitFor } from './processes.ts';

export type Step = { readonly step: string; readonly ms: number; readonly problem?: string };
export type Story = { readonly steps: readonly Step[]; readonly logs?: Readonly<Record<string, string>> };

const GET_QUOTE = 3;
const INVALID_QUOTE = 9;
const TERMINAL: ReadonlyMap<unknown, string> = new Map([
  [7, 'Failed'],
  [INVALID_QUOTE, 'Invalid Quote'],
  [10, 'Tenant Quote Failed'],
]);
const UNKNOWN_FILE = '/opt/unknown/tool';
const POLICY = 'interop-policy';
const MB_POLICY = 'interop-boot';
const POLICY_TOOL = join(ROOT, 'packages', 'policy-tool', 'bin', 'keylime_policy.mjs');
const CREATED = "{'code': 201, 'status': 'Created', 'results': {}}";

/** Every wait for an attestation: three intervals, retries after an agent's restart, and a busy machine. */
const ATTESTED_MS = 30_000;

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const UNKNOWN_DIGEST = sha256('never seen');
const KNOWN: ReadonlyMap<string, string> = new Map(
  ['boot_aggregate', '/usr/bin/sh', '/usr/lib/libc.so.6'].map((path) => [path, sha256(path)]),
);

/** A key that nobody has signed with: it has to go through all programs and be taken. */
const SIGNATURE_KEYS = {
  pubkeys: [
    'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFOoNhXDpHbUAqVmVuhYLFNXjdynvNA/f2WtlF7KhEV7WJZjM/qx2K7fZ1l+1OHFUQMFKpTUA58J6mlG1XgtABQ==',
  ],
  keyids: [0x93a5d39b],
};

/** Rules for devices; the existing verifier's schema refuses them, though its code has them. */
const DM_POLICY = {
  version: 1,
  match_on: 'name',
  rules: { rootfs: { required: false, table_load: { name: 'rootfs', num_targets: 0, targets: [] } } },
};

/** Every member that the verifier takes, filled. */
const runtimePolicy = (allowed: ReadonlyMap<string, string>, { verifier }: Combination) => ({
  meta: { version: 1, generator: 3, timestamp: '2026-01-02 03:04:05.000000' },
  release: 0,
  digests: Object.fromEntries([...allowed].map(([path, digest]) => [path, [digest]])),
  excludes: ['^/tmp/.*$'],
  keyrings: { '.ima': [sha256('a key')] },
  ima: { ignored_keyrings: ['.machine'], log_hash_alg: 'sha1', dm_policy: verifier === 'ours' ? DM_POLICY : null },
  'ima-buf': { kernel_info: [sha256('a buffer')] },
  'verification-keys': JSON.stringify(SIGNATURE_KEYS),
});

/** Files that what comes with a payload writes. */
const PAYLOAD_RAN = 'payload-ran';
const ACTION_RAN = 'action-ran';
const ACTION = 'local_action_tell.sh';

/** What goes into the payload beside the certificates: a script, and a revocation action. */
async function writePayload(folder: string): Promise<string> {
  const include = join(folder, 'include');
  await mkdir(include, { recursive: true });
  const whole = (name: string) => `mv ${join(folder, name)}.part ${join(folder, name)}`;
  const files = {
    'autorun.sh': `#!/bin/sh\nls > ${join(folder, PAYLOAD_RAN)}.part && ${whole(PAYLOAD_RAN)}\n`,
    [ACTION]: `#!/bin/sh\ncat "$1" > ${join(folder, ACTION_RAN)}.part && ${whole(ACTION_RAN)}\n`,
    action_list: `${ACTION}\n`,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(include, name), text);
  return include;
}

/** The text of a file that a script writes sooner or later. */
const written = (folder: string, name: string): Promise<string> =>
  waitFor(name, () => readFile(join(folder, name), 'utf8').catch(() => undefined), { timeoutMs: 20_000 });

/** Thrown by a step that saw the wrong thing; the message says what was expected and what came. */
class Unexpected extends Error {}

function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Unexpected(message);
}

const field = (value: unknown, ...names: readonly string[]): unknown =>
  names.reduce<unknown>(
    (at, name) => (at !== null && typeof at === 'object' ? Reflect.get(at, name) : undefined),
    value,
  );

/** The last line of the tenant's output that is a JSON object, as scripts find it (`grep '^{' | tail -1 | jq`). */
function jsonLine({ stdout }: Finished): unknown {
  const line = stdout.split('\n').findLast((text) => text.startsWith('{"'));
  expect(line !== undefined, `no JSON line in the output:\n${stdout}`);
  return JSON.parse(line);
}

function succeeded(what: string, done: Finished): Finished {
  const output = `${done.stdout}${done.stderr}`.trimEnd().split('\n').slice(-12).join('\n');
  expect(done.code === 0, `tenant ${what} ended with ${done.code}:\n${output}`);
  return done;
}

/** The agent's record at the verifier, or `undefined` while it has none. */
const verifierRecord = async ({ agentId, get, ports }: Site): Promise<unknown> => {
  const { status, body } = await get(ports.verifier, `/v2.6/agents/${agentId}`);
  expect(status === 200 || status === 404, `GET /v2.6/agents/… of the verifier answered ${status}`);
  return status === 200 ? field(body, 'results') : undefined;
};

/** Runs the tenant and looks for `text` in what it prints. */
async function prints(site: Site, args: readonly string[], text: string): Promise<void> {
  const what = args[1] ?? '';
  const { stdout } = succeeded(what, await site.tenant(...args));
  expect(stdout.includes(text), `tenant ${what} did not print ${text} but\n${stdout}`);
}

/** Waits until the verifier is content and has attested the agent `atLeast` times. */
async function attests(site: Site, atLeast: number): Promise<void> {
  const content = async () => {
    const record = await verifierRecord(site);
    const state = field(record, 'operational_state');
    expect(!TERMINAL.has(state), `the healthy agent is in state ${TERMINAL.get(state)}: ${JSON.stringify(record)}`);
    const passing = field(record, 'attestation_status') === 'PASS' && attestations(record) >= atLeast;
    return state === GET_QUOTE && passing ? true : undefined;
  };
  await waitFor(`Get Quote, PASS and ${atLeast} attestations`, content, { timeoutMs: ATTESTED_MS, everyMs: 100 });
}

const attestations = (record: unknown): number => Number(field(record, 'attestation_count'));

async function registers(site: Site): Promise<void> {
  await site.startAgent();
  const { agentId, get, ports, programs } = site;
  const active = async () =>
    (await get(ports.registrarTls, `/v2.6/agents/${agentId}`)).status === 200 ? true : undefined;
  const program = programs.agent;
  await waitFor('activation', active, { timeoutMs: 60_000, everyMs: 100, ...(program && { program }) });
}

/** The verifier's record when it has given the machine up. */
const failedRecord = (site: Site) =>
  waitFor(
    'Invalid Quote',
    async () => {
      const found = await verifierRecord(site);
      return TERMINAL.has(field(found, 'operational_state')) ? found : undefined;
    },
    { timeoutMs: 30_000, everyMs: 50 },
  );

type StoryStep = {
  readonly step: string;
  readonly run: (site: Site, folder: string) => Promise<void>;
};

const steps: readonly StoryStep[] = [
  { step: 'verifier and registrar start', run: (site) => site.startServices() },
  {
    step: 'agent registers and is activated',
    run: async (site) => {
      for (const [path, digest] of KNOWN) await site.recorder.measure(path, digest);
      await registers(site);
    },
  },
  {
    step: 'tenant addruntimepolicy, listruntimepolicy, showruntimepolicy',
    run: async (site, folder) => {
      const file = join(folder, 'policy.json');
      await writeFile(file, JSON.stringify(runtimePolicy(KNOWN, site.combination)));
      const named = ['--runtime-policy-name', POLICY];
      await prints(site, ['-c', 'addruntimepolicy', ...named, '--runtime-policy', file], CREATED);
      await prints(site, ['-c', 'listruntimepolicy'], `'runtimepolicy names': ['${POLICY}']`);
      const shown = `{'code': 200, 'status': 'Success', 'results': {'name': '${POLICY}'`;
      await prints(site, ['-c', 'showruntimepolicy', ...named], shown);
    },
  },
  {
    step: 'tenant addmbpolicy, listmbpolicy, showmbpolicy',
    run: async (site, folder) => {
      const file = join(folder, 'reference.json');
      const create = ['create', 'measured-boot', '-e', site.bootLog, '-o', file];
      succeeded('keylime-policy', await runProgram({ command: process.execPath, args: [POLICY_TOOL, ...create] }));
      const named = ['--mb-policy-name', MB_POLICY];
      // Our verifier warns that `example`, which is in force, does not look at all of it.
      await prints(site, ['-c', 'addmbpolicy', ...named, '--mb-policy', file], CREATED.slice(0, CREATED.indexOf('{}')));
      await prints(site, ['-c', 'listmbpolicy'], `'mbpolicy names': ['${MB_POLICY}']`);
      const shown = `{'code': 200, 'status': 'Success', 'results': {'name': '${MB_POLICY}', 'mb_policy': '{"has_secureboot": true, `;
      await prints(site, ['-c', 'showmbpolicy', ...named], shown);
    },
  },
  {
    step: 'tenant add --cert --include',
    run: async (site, folder) => {
      const payload = ['--cert', join(folder, 'payload-ca'), '--include', await writePayload(folder)];
      // The agent listens a moment after its activation; the tenant retries by itself.
      const policies = ['--runtime-policy-name', POLICY, '--mb-policy-name', MB_POLICY];
      const add = ['-c', 'add', '-u', site.agentId, ...policies, ...payload];
      succeeded('add', await site.tenant(...add));
    },
  },
  { step: 'verifier attests: Get Quote, PASS', run: (site) => attests(site, 2) },
  {
    step: 'payload: its script ran among its files',
    run: async (site, folder) => {
      const files = (await written(folder, PAYLOAD_RAN)).trim().split('\n');
      const expected = [
        ...['RevocationNotifier-cert.crt', 'action_list', 'autorun.sh', 'cacert.crt', 'derived_tci_key'],
        ...[`${site.agentId}-cert.crt`, `${site.agentId}-private.pem`, ACTION],
      ];
      const missing = expected.filter((name) => !files.includes(name));
      expect(missing.length === 0, `the payload has no ${missing.join(', ')} but ${files.join(', ')}`);
    },
  },
  {
    step: 'tenant reglist, regstatus',
    run: async (site) => {
      const list = jsonLine(succeeded('reglist', await site.tenant('-c', 'reglist')));
      expect(
        JSON.stringify(list) === JSON.stringify({ uuids: [site.agentId] }),
        `reglist printed ${JSON.stringify(list)}`,
      );
      const status = jsonLine(succeeded('regstatus', await site.tenant('-c', 'regstatus', '-u', site.agentId)));
      const state = field(status, site.agentId, 'operational_state');
      expect(state === 'Registered', `regstatus printed operational_state ${JSON.stringify(state)}`);
      for (const name of ['aik_tpm', 'ek_tpm', 'ekcert', 'mtls_cert', 'ip', 'port', 'regcount']) {
        expect(field(status, site.agentId, name) !== undefined, `regstatus printed no ${name}`);
      }
    },
  },
  {
    step: 'tenant cvlist, cvstatus',
    run: async (site) => {
      const list = jsonLine(succeeded('cvlist', await site.tenant('-c', 'cvlist')));
      const expected = JSON.stringify({ uuids: [[site.agentId]] });
      expect(JSON.stringify(list) === expected, `cvlist printed ${JSON.stringify(list)}`);
      const done = succeeded('cvstatus', await site.tenant('-c', 'cvstatus', '-u', site.agentId));
      const record = field(jsonLine(done), site.agentId);
      const first = Object.entries(record ?? {})[0];
      expect(String(first) === 'operational_state,Get Quote', `cvstatus begins with ${JSON.stringify(first)}`);
      const status = field(record, 'attestation_status');
      expect(status === 'PASS', `cvstatus printed attestation_status ${JSON.stringify(status)}`);
    },
  },
  {
    step: 'tenant bulkinfo, status',
    run: async (site) => {
      const bulk = jsonLine(succeeded('bulkinfo', await site.tenant('-c', 'bulkinfo')));
      const state = field(bulk, site.agentId, 'operational_state');
      expect(state === 'Get Quote', `bulkinfo printed operational_state ${JSON.stringify(state)}`);
      const status = jsonLine(succeeded('status', await site.tenant('-c', 'status', '-u', site.agentId)));
      const seen = field(status, site.agentId, 'operational_state');
      expect(seen === 'Get Quote', `status ends with operational_state ${JSON.stringify(seen)}`);
    },
  },
  {
    step: 'unknown file: Invalid Quote, FAIL',
    run: async (site) => {
      await site.recorder.measure(UNKNOWN_FILE, UNKNOWN_DIGEST);
      const record = await failedRecord(site);
      const seen = ['operational_state', 'attestation_status', 'last_event_id'].map((name) => field(record, name));
      const expected = [INVALID_QUOTE, 'FAIL', 'ima.validation.ima-ng.not_in_allowlist'];
      expect(String(seen) === String(expected), `expected ${expected}, the verifier has ${seen}`);
    },
  },
  {
    step: 'texts in the log of the verifier',
    run: async (site) => {
      const log = site.programs.verifier?.log ?? '';
      const wanted = [`File not found in allowlist: ${UNKNOWN_FILE}`, `Agent ${site.agentId} failed, stopping polling`];
      await waitFor(
        `"${wanted.join('" and "')}" in the log`,
        async () => {
          const text = await readFile(log, 'utf8');
          return wanted.every((line) => text.includes(line)) ? true : undefined;
        },
        { timeoutMs: 5_000 },
      );
    },
  },
  {
    step: 'revocation notification',
    run: async (site) => {
      const body = await waitFor('webhook call', async () => site.notifications[0], { timeoutMs: 10_000 });
      const text = field(body, 'msg');
      expect(typeof text === 'string', `the notification has no msg: ${JSON.stringify(body)}`);
      const message: unknown = JSON.parse(text);
      const seen = ['type', 'agent_id', 'event_id'].map((name) => field(message, name));
      const expected = ['revocation', site.agentId, 'ima.validation.ima-ng.not_in_allowlist'];
      expect(String(seen) === String(expected), `expected ${expected}, was told ${seen}`);
    },
  },
  {
    step: 'revocation action of the payload ran',
    run: async (site, folder) => {
      const message: unknown = JSON.parse(await written(folder, ACTION_RAN));
      const seen = ['type', 'agent_id'].map((name) => field(message, name));
      expect(String(seen) === `revocation,${site.agentId}`, `the action was told ${seen}`);
    },
  },
  {
    step: 'tenant updateruntimepolicy, reactivate: PASS again',
    run: async (site, folder) => {
      const file = join(folder, 'wider-policy.json');
      await writeFile(
        file,
        JSON.stringify(runtimePolicy(new Map([...KNOWN, [UNKNOWN_FILE, UNKNOWN_DIGEST]]), site.combination)),
      );
      const before = attestations(await verifierRecord(site));
      const update = ['-c', 'updateruntimepolicy', '--runtime-policy-name', POLICY, '--runtime-policy', file];
      await prints(site, update, CREATED);
      const reactivate = ['-c', 'reactivate', '-u', site.agentId];
      await prints(site, reactivate, `Agent ${site.agentId} re-activated`);
      await waitFor(
        'the verifier starts anew',
        async () => (TERMINAL.has(field(await verifierRecord(site), 'operational_state')) ? undefined : true),
        { timeoutMs: ATTESTED_MS },
      );
      await attests(site, before + 2);
    },
  },
  {
    step: 'a boot event log of another boot: Invalid Quote, FAIL',
    run: async (site) => {
      await site.serveBootLog({ kernelCommandLine: '/boot/vmlinuz init=/bin/sh' });
      const record = await failedRecord(site);
      const seen = ['operational_state', 'attestation_status', 'last_event_id', 'has_mb_refstate'];
      const expected = [INVALID_QUOTE, 'FAIL', 'measured_boot.invalid_pcr_8', 1];
      const got = seen.map((name) => field(record, name));
      expect(String(got) === String(expected), `expected ${expected}, the verifier has ${got}`);
      await site.serveBootLog({});
      const before = attestations(record);
      const reactivate = ['-c', 'reactivate', '-u', site.agentId];
      await prints(site, reactivate, `Agent ${site.agentId} re-activated`);
      await attests(site, before + 2);
    },
  },
  // Late: the existing agent acts upon no revocation between a restart and the next payload.
  {
    step: 'agent restarts with its old AK, attestation goes on',
    run: async (site) => {
      const path = `/v2.6/agents/${site.agentId}`;
      const ak = async () => field((await site.get(site.ports.registrarTls, path)).body, 'results', 'aik_tpm');
      const old = await ak();
      await site.programs.agent?.stop();
      await registers(site);
      expect(old !== undefined && (await ak()) === old, 'the registrar has another AK after the restart');
      await attests(site, attestations(await verifierRecord(site)) + 2);
    },
  },
  {
    step: 'tenant delete, deleteruntimepolicy, deletembpolicy, regdelete',
    run: async (site) => {
      succeeded('delete', await site.tenant('-c', 'delete', '-u', site.agentId));
      expect((await verifierRecord(site)) === undefined, 'the verifier still has the agent');
      await prints(site, ['-c', 'deleteruntimepolicy', '--runtime-policy-name', POLICY], '{}');
      await prints(site, ['-c', 'deletembpolicy', '--mb-policy-name', MB_POLICY], '{}');
      succeeded('regdelete', await site.tenant('-c', 'regdelete', '-u', site.agentId));
      const { status } = await site.get(site.ports.registrarTls, `/v2.6/agents/${site.agentId}`);
      expect(status === 404, `the registrar answers ${status} for the deleted agent`);
    },
  },
];

/** Plays the whole story on a new site; stops at the first step that fails, and then brings the ends of the logs. `opened` is told the site. */
export async function playStory(options: SiteOptions, opened: (site: Site) => void): Promise<Story> {
  const done: Step[] = [];
  let since = performance.now();
  let step = 'site is laid out';
  const lap = () => {
    const ms = Math.round(performance.now() - since);
    since = performance.now();
    return ms;
  };
  try {
    await using site = await openSite(options);
    opened(site);
    done.push({ step, ms: lap() });
    for (const next of steps) {
      step = next.step;
      await next.run(site, options.folder);
      done.push({ step, ms: lap() });
    }
    return { steps: done };
  } catch (cause) {
    done.push({ step, ms: lap(), problem: cause instanceof Error ? cause.message : String(cause) });
    const logs = PARTS.map((part) => [part, logTail(join(options.folder, 'logs', `${part}.log`))] as const);
    return { steps: done, logs: Object.fromEntries(logs.filter(([, text]) => text !== '(no log)')) };
  }
}
