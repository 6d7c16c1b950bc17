import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Combination, Site } from './harness.ts';
import { ROOT } from './launchers.ts';
import { runProgram, waitFor } from './processes.ts';
import { expect, field, prints, type StoryStep, succeeded, verifierRecord } from './step.ts';

const POLICY_TOOL = join(ROOT, 'packages', 'policy-tool', 'bin', 'keylime_policy.mjs');
export const UNKNOWN_FILE = '/opt/unknown/tool';
export const POLICY = 'interop-policy';
export const MB_POLICY = 'interop-boot';
export const CREATED = "{'code': 201, 'status': 'Created', 'results': {}}";

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
export const UNKNOWN_DIGEST = sha256('never seen');
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

/** Lets the verifier allow the file that it did not know. */
export async function allowUnknownFile(site: Site, folder: string): Promise<void> {
  const file = join(folder, 'wider-policy.json');
  const allowed = new Map([...KNOWN, [UNKNOWN_FILE, UNKNOWN_DIGEST]]);
  await writeFile(file, JSON.stringify(runtimePolicy(allowed, site.combination)));
  const update = ['-c', 'updateruntimepolicy', '--runtime-policy-name', POLICY, '--runtime-policy', file];
  await prints(site, update, CREATED);
}

/** The log of the verifier says which file it was. */
export const namesUnknownFile = async (site: Site): Promise<string> => {
  const log = site.programs.verifier?.log ?? '';
  return waitFor(
    'the unknown file in the log of the verifier',
    async () => {
      const text = await readFile(log, 'utf8');
      return text.includes(`File not found in allowlist: ${UNKNOWN_FILE}`) ? text : undefined;
    },
    { timeoutMs: 5_000 },
  );
};

export async function registers(site: Site): Promise<void> {
  await site.startAgent();
  const { agentId, get, ports, programs } = site;
  const active = async () =>
    (await get(ports.registrarTls, `/v2.6/agents/${agentId}`)).status === 200 ? true : undefined;
  const program = programs.agent;
  await waitFor('activation', active, { timeoutMs: 60_000, everyMs: 100, ...(program && { program }) });
}

/** The agent ends, starts again, and is the same one. */
export async function restartsAgent(site: Site): Promise<void> {
  const path = `/v2.6/agents/${site.agentId}`;
  const ak = async () => field((await site.get(site.ports.registrarTls, path)).body, 'results', 'aik_tpm');
  const old = await ak();
  await site.programs.agent?.stop();
  await registers(site);
  expect(old !== undefined && (await ak()) === old, 'the registrar has another AK after the restart');
}

/** How both stories begin: services, agent, and policies that this machine is judged by. */
export const FIRST_STEPS: readonly StoryStep[] = [
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
];

/** How both end: everything is removed. */
export const LAST_STEP: StoryStep = {
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
};
