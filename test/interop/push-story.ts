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
import { ATTESTED_MS, attestations, expect, field, type StoryStep, succeeded, verifierRecord } from './step.ts';

const POLICIES = ['--runtime-policy-name', POLICY, '--mb-policy-name', MB_POLICY];

const enrol = async (site: Site, command: 'add' | 'update'): Promise<void> => {
  succeeded(command, await site.tenant('-c', command, '--push-model', '-u', site.agentId, ...POLICIES));
};

/** Waits until the verifier says so of the agent; the record in which it does. */
const isSaid = (site: Site, status: 'PASS' | 'FAIL', atLeast = 0) =>
  waitFor(
    `${status} after ${atLeast} attestations`,
    async () => {
      const record = await verifierRecord(site);
      const said = field(record, 'attestation_status');
      // TIMEOUT may be said in passing: a restart takes longer than five of the short intervals here.
      const isMistaken = status === 'PASS' && said === 'FAIL';
      expect(!isMistaken, `the healthy agent is said to FAIL: ${JSON.stringify(record)}`);
      return said === status && attestations(record) >= atLeast ? record : undefined;
    },
    { timeoutMs: ATTESTED_MS, everyMs: 100 },
  );

const goesOn = async (site: Site): Promise<void> => {
  await isSaid(site, 'PASS', attestations(await verifierRecord(site)) + 2);
};

/** The agent attests by itself. */
export const PUSH_STEPS: readonly StoryStep[] = [
  ...FIRST_STEPS,
  { step: 'tenant add --push-model', run: (site) => enrol(site, 'add') },
  {
    step: 'agent attests: PASS',
    run: async (site) => {
      const record = await isSaid(site, 'PASS', 2);
      const address = ['ip', 'port'].map((name) => field(record, name));
      expect(String(address) === ',', `the verifier has an address of the agent: ${address}`);
    },
  },
  {
    step: 'measurements that are allowed: PASS',
    run: async (site) => {
      await site.recorder.measure('/tmp/left/out', UNKNOWN_DIGEST);
      await goesOn(site);
    },
  },
  {
    step: 'agent restarts with its old AK, attestation goes on',
    run: async (site) => {
      await restartsAgent(site);
      await goesOn(site);
    },
  },
  {
    step: 'verifier restarts, attestation goes on',
    run: async (site) => {
      await site.restartVerifier();
      await goesOn(site);
    },
  },
  {
    step: 'unknown file: FAIL',
    run: async (site) => {
      await site.recorder.measure(UNKNOWN_FILE, UNKNOWN_DIGEST);
      const record = await isSaid(site, 'FAIL');
      await namesUnknownFile(site);
      // The existing verifier keeps no event, and tells nobody, of an agent that attests by itself.
      if (site.combination.verifier === 'theirs') return;
      const event = field(record, 'last_event_id');
      expect(event === 'ima.validation.ima-ng.not_in_allowlist', `the verifier has the event ${event}`);
      const body = await waitFor('webhook call', async () => site.notifications[0], { timeoutMs: 10_000 });
      const message: unknown = JSON.parse(String(field(body, 'msg')));
      const seen = ['type', 'agent_id'].map((name) => field(message, name));
      expect(String(seen) === `revocation,${site.agentId}`, `the webhook was told ${seen}`);
    },
  },
  {
    step: 'tenant updateruntimepolicy, update --push-model: PASS again',
    run: async (site, folder) => {
      await allowUnknownFile(site, folder);
      await enrol(site, 'update');
      await isSaid(site, 'PASS', 2);
    },
  },
  LAST_STEP,
];
