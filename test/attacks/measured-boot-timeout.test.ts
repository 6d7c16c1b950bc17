import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { decodeEventLog } from '@keylime/event-log/decode';
import { replayBank } from '@keylime/event-log/replay';
import { encodePublic } from '@keylime/tpm/public';
import { bootOf, logOf, strictReference } from './boot-harness.ts';
import { type AttackedVerifier, INVALID_QUOTE, startAttackedVerifier } from './verifier-harness.ts';

/* A machine writes a log that takes longer to judge than a boot may take: a boot that nobody judged is not a good one. */
let verifier: AttackedVerifier;
before(async () => {
  const settings = { measured_boot_policy_name: 'strict', measured_boot_timeout: '0.1', max_retries: '100' };
  verifier = await startAttackedVerifier({ process: true, settings });
});
after(() => verifier?.stop());

const lines = Array.from({ length: 16_000 }, (_, i) => Buffer.from(`kernel_cmdline: ${'x'.repeat(900)}${i}\0`));
const LOG = logOf([...bootOf(), ...lines.map((data) => ({ pcr: 8, type: 'EV_IPL', data }) as const)]);
const PCRS = replayBank(decodeEventLog(LOG), 'sha256');

test('[MUST] caught: a log that a policy of ours cannot judge in time, at once and under an event of its own', async () => {
  const agent = await verifier.agent('slow');
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, pcrs: new Map([...(truth.pcrs ?? []), ...PCRS]) }),
    results: (truth) => ({ ...truth, mb_measurement_list: LOG.toString('base64') }),
  });
  await verifier.enrol(agent, {
    mb_policy: strictReference(),
    runtime_policy: '',
    tpm_policy: '{"mask": "0x0"}',
  });
  const status = await verifier.until('slow', ({ attestation_status }) => attestation_status === 'FAIL');
  assert.deepEqual(
    [status.operational_state, status.last_event_id, status.unreachable_rounds, status.attestation_count],
    [INVALID_QUOTE, 'measured_boot.evaluation_timeout', 0, 0],
  );
  const said = /^The boot could not be judged by measured-boot policy strict: It took longer than 100 ms/;
  assert.match(String(status.last_failures[0]?.context.message), said);
});

test('[MUST] not valid: evidence of a boot that a policy of ours cannot judge in time', async () => {
  const { ak } = await verifier.agent('stranger');
  const data = {
    quote: ak.quote({ nonce: Buffer.from('n'), mask: 0xfbff, pcrs: PCRS }),
    nonce: 'n',
    hash_alg: 'sha256',
    tpm_ek: 'x',
    tpm_ak: encodePublic(ak.public).toString('base64'),
    mb_policy: strictReference(),
    mb_log: LOG.toString('base64'),
  };
  const path = '/v2.6/verify/evidence';
  const { code, results } = await verifier.ask({ method: 'POST', path, json: { type: 'tpm', data }, as: 'nobody' });
  const [failure] = results.failures as readonly { readonly type: string }[];
  assert.deepEqual([code, results.valid, failure?.type], [200, false, 'measured_boot.evaluation_timeout']);
});
