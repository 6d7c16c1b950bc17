import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { decodeEventLog } from '@keylime/event-log/decode';
import { encodeEventLog } from '@keylime/event-log/encode';
import { replayBank } from '@keylime/event-log/replay';
import { softwareAk } from '@keylime/testing/software-ak';
import { encodePublic } from '@keylime/tpm/public';
import { bootOf, GOOD_LOG, logOf, strictReference } from './boot-harness.ts';
import { type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

/* Strangers bring the evidence of a boot to be judged once: it always is, and costs nobody else anything. */
const MODULE = path.join(import.meta.dirname, 'boot-policies.fixture.ts');
let strict: AttackedVerifier;
let moody: AttackedVerifier;
before(async () => {
  const imports = { measured_boot_imports: `['${MODULE}']`, measured_boot_timeout: '1' };
  [strict, moody] = await Promise.all([
    startAttackedVerifier({ settings: { measured_boot_policy_name: 'strict' } }),
    startAttackedVerifier({ settings: { ...imports, measured_boot_policy_name: 'moody' } }),
  ]);
});
after(async () => {
  await Promise.all([strict?.stop(), moody?.stop()]);
});

const ak = softwareAk({ encryption: 'ecc256' });
const pcrsOf = (log: Buffer) => replayBank(decodeEventLog(log), 'sha256');

const evidence = (log: Buffer, { mask = 0xfbff, pcrs = pcrsOf(log) } = {}) => ({
  quote: ak.quote({ nonce: Buffer.from('n'), mask, pcrs }),
  nonce: 'n',
  hash_alg: 'sha256',
  tpm_ek: 'x',
  tpm_ak: encodePublic(ak.public).toString('base64'),
  mb_policy: strictReference(),
  mb_log: log.toString('base64'),
});

async function judge(verifier: AttackedVerifier, data: object) {
  const json = { type: 'tpm', data };
  const { code, results, status } = await verifier.ask({
    method: 'POST',
    path: '/v2.6/verify/evidence',
    json,
    as: 'nobody',
  });
  const failures = Array.isArray(results.failures) ? (results.failures as { readonly type: string }[]) : [];
  return { code, status, valid: results.valid, types: failures.map(({ type }) => type), warnings: results.warnings };
}

test('a boot in good order is valid, every time that it is asked', async () => {
  for (let n = 0; n < 2; n++) {
    const { code, valid, types, warnings } = await judge(strict, evidence(GOOD_LOG));
    assert.deepEqual([code, valid, types, warnings], [200, true, [], undefined]);
  }
});

test('that a boot is valid by a policy which does not look at the reference state is said', async () => {
  const lax = await startAttackedVerifier();
  try {
    const { valid, warnings } = await judge(lax, evidence(GOOD_LOG));
    assert.equal(valid, true);
    assert.match(String(warnings), /^The reference state names no policy, so accept-all .* looks at nothing of it/);
    const { warnings: none } = await judge(lax, {
      ...evidence(GOOD_LOG),
      mb_policy: null,
      tpm_policy: '{"mask": "0x0"}',
    });
    assert.equal(none, undefined);
  } finally {
    await lax.stop();
  }
});

const EVIL_LOG = logOf(bootOf({ kernelCommandLine: '/boot/vmlinuz init=/bin/sh' }));

for (const [name, data, type] of [
  ['another command line', evidence(EVIL_LOG), 'measured_boot.policy_strict'],
  [
    'the log of another boot',
    { ...evidence(EVIL_LOG), mb_log: GOOD_LOG.toString('base64') },
    'measured_boot.invalid_pcr_8',
  ],
  ['no log', { ...evidence(GOOD_LOG), mb_log: null }, 'pcr_validation.unused_pcr_0'],
  ['a quote without PCRs 0 to 7', evidence(GOOD_LOG, { mask: 0xfb00 }), 'measured_boot.missing_pcrs'],
  [
    'a log of another bank',
    { ...evidence(GOOD_LOG), mb_log: encodeEventLog(['sha1'], bootOf()).toString('base64') },
    'measured_boot.parser.invalid_pcrs_hashes',
  ],
  [
    'a reference state of another policy',
    { ...evidence(GOOD_LOG), mb_policy: '{"x": 1}' },
    'pcr_validation.invalid_mb_policy',
  ],
] as const) {
  test(`[MUST] not valid: ${name}`, async () => {
    const { code, valid, types } = await judge(strict, data);
    assert.deepEqual([code, valid, types[0]], [200, false, type]);
  });
}

test('a reference state without content is nothing to judge by', async () => {
  const { code, status } = await judge(strict, { ...evidence(GOOD_LOG), mb_policy: '{}' });
  assert.equal(code, 400);
  assert.match(status, /'mb_policy': there is nothing to judge by/);
});

test('[MUST] a policy that computes for ever has refused the boot, and meanwhile other evidence is judged', async () => {
  const hanging = judge(moody, { ...evidence(GOOD_LOG), mb_policy: '{"mood": "loops"}' });
  const tpm = await judge(moody, { ...evidence(GOOD_LOG), mb_policy: null, tpm_policy: '{"mask": "0x0"}' });
  assert.deepEqual([tpm.code, tpm.valid], [200, true]);
  const { code, valid, types } = await hanging;
  assert.deepEqual([code, valid, types], [200, false, ['measured_boot.policy_moody']]);
  const next = await judge(moody, { ...evidence(GOOD_LOG), mb_policy: '{"mood": "good"}' });
  assert.deepEqual([next.code, next.valid], [200, true]);
});
