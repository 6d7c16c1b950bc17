import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  allowUnknownFile,
  FIRST_STEPS,
  LAST_STEP,
  MB_POLICY,
  namesUnknownFile,
  POLICY,
  restartsAgent,
  UNKNOWN_DIGEST,
  UNKNOWN_FILE,
} from './first-and-last-steps.ts';
import type { Site } from './harness.ts';
import { waitFor } from './processes.ts';
import {
  ATTESTED_MS,
  attestations,
  expect,
  field,
  jsonLine,
  prints,
  type StoryStep,
  succeeded,
  verifierRecord,
} from './step.ts';

const GET_QUOTE = 3;
const INVALID_QUOTE = 9;
const TERMINAL: ReadonlyMap<unknown, string> = new Map([
  [7, 'Failed'],
  [INVALID_QUOTE, 'Invalid Quote'],
  [10, 'Tenant Quote Failed'],
]);

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

/** The verifier asks the agent. */
export const PULL_STEPS: readonly StoryStep[] = [
  ...FIRST_STEPS,
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
      const text = await namesUnknownFile(site);
      const wanted = `Agent ${site.agentId} failed, stopping polling`;
      expect(text.includes(wanted), `"${wanted}" is not in the log`);
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
      const before = attestations(await verifierRecord(site));
      await allowUnknownFile(site, folder);
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
    step: 'agent restarts with its old AK, with our verifier also with another certificate: attestation goes on',
    run: async (site, folder) => {
      // The existing verifier knows the certificate of the enrolment and no other.
      if (site.combination.verifier === 'ours') await rm(join(folder, 'agent', 'server-cert.crt'));
      await restartsAgent(site);
      await attests(site, attestations(await verifierRecord(site)) + 2);
    },
  },
  LAST_STEP,
];
