import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { recordImaNg } from '@keylime/ima/record';
import { ecdsaKeyId, signEnvelope, x509KeyId } from '@keylime/policies/dsse';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { measure, recordedBuffer } from './ima-records.ts';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  FAILED,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [trusted, stranger] = [pair(), pair()];
const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'spki' }).toString();
const signed = ({ privateKey, publicKey }: typeof trusted, text = runtimePolicy(), keyid = ecdsaKeyId(publicKey)) =>
  signEnvelope(Buffer.from(text), privateKey, keyid);

let keys: string;
/** Trusts one key, and takes violations for failures. */
let strict: AttackedVerifier;
let relaxed: AttackedVerifier;
before(async () => {
  keys = await mkdtemp(path.join(os.tmpdir(), 'keylime-policy-key-'));
  await writeFile(path.join(keys, 'key.pem'), pem(trusted.publicKey));
  const settings = {
    require_allow_list_signatures: 'True',
    runtime_policy_signature_keys: `['${path.join(keys, 'key.pem')}']`,
    tomtou: 'fail',
  };
  [strict, relaxed] = await Promise.all([startAttackedVerifier({ settings }), startAttackedVerifier()]);
});
after(async () => {
  await Promise.all([strict?.stop(), relaxed?.stop()]);
  await rm(keys, { recursive: true });
});

const NO_KEY = 'Runtime policy signature verification required but no key was given!';
const BAD = 'Runtime policy failed DSSE signature verification!';

for (const [what, text, key, code, status] of [
  ['an unsigned policy', runtimePolicy(), '', 401, NO_KEY],
  ["a policy signed by a stranger, with the stranger's key", signed(stranger), pem(stranger.publicKey), 401, BAD],
  [
    'a policy signed by a stranger under the trusted key id',
    signed(stranger, undefined, ecdsaKeyId(trusted.publicKey)),
    '',
    401,
    BAD,
  ],
  ['a policy signed by a stranger whose key id is a path', signed(stranger, undefined, '../../key'), '', 401, BAD],
  [
    'a policy signed by a stranger with a certificate as key id',
    signed(stranger, undefined, x509KeyId(pem(stranger.publicKey))),
    '',
    401,
    BAD,
  ],
  [
    'a signed policy that is none',
    signed(trusted, '{}'),
    '',
    400,
    "Runtime policy is malformatted: 'meta' is a required property (and 7 more problems)",
  ],
] as const) {
  test(`[MUST] refused where signatures are required: ${what}`, async () => {
    const json = { runtime_policy: base64(text), runtime_policy_key: base64(key), tpm_policy: '{}' };
    const answer = await strict.ask({ method: 'POST', path: '/v2.6/allowlists/p', json });
    assert.deepEqual([answer.code, answer.status], [code, status]);
    assert.equal((await strict.ask({ path: '/v2.6/allowlists/p' })).code, 404, 'nothing was stored');
  });
}

test('[MUST] an enrolment does not get round the signature', async () => {
  const agent = await strict.agent('unsigned');
  const json = { runtime_policy: base64(runtimePolicy()) };
  await assert.rejects(strict.enrol(agent, json), /signature verification required/);
});

test('a policy that the trusted key signed judges, and the envelope is what is stored', async () => {
  const text = signed(trusted);
  const agent = await strict.agent('trusted');
  await strict.enrol(agent, { runtime_policy: base64(text), runtime_policy_name: 'signed' });
  await strict.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  const stored = await strict.ask({ path: '/v2.6/allowlists/signed' });
  assert.equal(stored.results.runtime_policy, text);
  agent.lie({});
  agent.machine.measure('/opt/implant', Buffer.from('x'));
  const event = 'ima.validation.ima-ng.not_in_allowlist';
  await assertFails(strict, agent, { event, message: /\/opt\/implant/ });
});

const violation = `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`;
const violated = async (verifier: AttackedVerifier, id: string, changes: object): Promise<LyingAgent> => {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent, { ...changes });
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  agent.lie({});
  agent.machine.append(violation, Buffer.alloc(32, 0xff));
  return agent;
};

test('[MUST] violations fail where tomtou = fail says so', async () => {
  const agent = await violated(strict, 'violated', { runtime_policy: base64(signed(trusted)) });
  await assertFails(strict, agent, { event: 'ima.validation.tomtou', message: /\/var\/log\/x/ });
});

test('violations pass by default, and nothing else of their line counts', async () => {
  const agent = await violated(relaxed, 'tolerated', {});
  const { attestation_count: count } = await relaxed.status(agent.id);
  const status = await relaxed.until(
    agent.id,
    (one) => one.attestation_count > count + 2 || one.operational_state >= 7,
  );
  assert.equal(status.attestation_status, 'PASS', JSON.stringify(status.last_failures));
});

/** Names no boot aggregate. */
const withoutBoot = () => {
  const policy = JSON.parse(runtimePolicy());
  delete policy.digests.boot_aggregate;
  return JSON.stringify(policy);
};

test('machines that booted differently share a policy, each judged by the PCRs that it quotes', async () => {
  const added = await relaxed.ask({
    method: 'POST',
    path: '/v2.6/allowlists/shared',
    json: { runtime_policy: base64(withoutBoot()), runtime_policy_key: '', tpm_policy: '{}' },
  });
  assert.equal(added.code, 201, added.text);
  const [one, other] = [await relaxed.agent('booted-1'), await relaxed.agent('booted-2')];
  const changes = { runtime_policy: '', runtime_policy_name: 'shared' };
  await relaxed.enrol(one, changes);
  await relaxed.until(one.id, ({ attestation_count }) => attestation_count > 1);
  assert.equal((one.asked.at(-1)?.mask ?? 0) & 0x7ff, 0x7ff, 'PCRs 0 to 10 were asked for');

  // The other machine has other firmware: its aggregate is right for its own PCRs only.
  const firmware = Buffer.alloc(32, 1);
  const aggregate = digest('sha256', firmware, Buffer.alloc(9 * 32));
  const boot = recordImaNg('boot_aggregate', 'sha256', aggregate);
  other.lie({
    quote: (truth) =>
      other.ak.quote({
        ...truth,
        pcrs: new Map([
          ...(truth.pcrs ?? []),
          [0, firmware],
          [10, digest('sha256', Buffer.alloc(32), boot.extendValue('sha256'))],
        ]),
      }),
    results: (truth) => ({ ...truth, ima_measurement_list: truth.ima_measurement_list_entry === 0 ? boot.line : '' }),
  });
  await relaxed.enrol(other, changes);
  const passed = await relaxed.until(
    other.id,
    (status) => status.attestation_count > 1 || status.operational_state >= 7,
  );
  assert.equal(passed.attestation_status, 'PASS', JSON.stringify(passed.last_failures));
});

test('[MUST] caught: the boot aggregate of another machine, although the policy is shared with it', async () => {
  const agent = await relaxed.agent('borrowed-boot');
  const foreign = digest('sha256', Buffer.alloc(32, 1), Buffer.alloc(9 * 32));
  const boot = recordImaNg('boot_aggregate', 'sha256', foreign);
  agent.lie({
    quote: (truth) =>
      agent.ak.quote({
        ...truth,
        pcrs: new Map([[10, digest('sha256', Buffer.alloc(32), boot.extendValue('sha256'))]]),
      }),
    results: (truth) => ({ ...truth, ima_measurement_list: boot.line }),
  });
  await relaxed.enrol(agent, { runtime_policy: '', runtime_policy_name: 'shared' });
  const event = 'ima.validation.ima-ng.not_in_allowlist';
  await assertFails(relaxed, agent, { event, message: new RegExp(`boot_aggregate.*${foreign.toString('hex')}`) });
});

test('a list of another file of the kernel, with hashes of its own algorithm, is judged when the policy says so', async () => {
  const ima = { ignored_keyrings: [], log_hash_alg: 'sha256', dm_policy: null };
  const agent = await relaxed.agent('sha256-list');
  const wide = (line: string) => {
    const parsed = parseImaLine(line.trimEnd());
    assert.ok(parsed.ok);
    return line.replace(/ [0-9a-f]+ /, ` ${digest('sha256', parsed.value.templateInput).toString('hex')} `);
  };
  const lines = (text: unknown) =>
    String(text)
      .split(/(?<=\n)/)
      .map(wide)
      .join('');
  agent.lie({
    results: (truth) => ({
      ...truth,
      ima_measurement_list: truth.ima_measurement_list === '' ? '' : lines(truth.ima_measurement_list),
    }),
  });
  await relaxed.enrol(agent, { runtime_policy: base64(runtimePolicy({ ima })) });
  const passed = await relaxed.until(
    agent.id,
    (status) => status.attestation_count > 1 || status.operational_state >= 7,
  );
  assert.equal(passed.attestation_status, 'PASS', JSON.stringify(passed.last_failures));
  const [file = ''] = ALLOWED_FILES;
  agent.lie({});
  agent.machine.measure(file, Buffer.from(file));
  const failed = await relaxed.until(agent.id, ({ operational_state }) => operational_state >= 7);
  assert.equal(failed.last_event_id, 'ima.validation.ima_hash', 'a hash of the other algorithm is wrong');
});

const V = 'dm_version=4.45.0;';
const metadata = 'name=rootfs,uuid=VERITY-1,major=253,minor=0,minor_count=1,num_targets=1';
const table = (root: string) =>
  `${V}${metadata};target_index=0,target_begin=0,target_len=8,target_name=verity,target_version=1.8.0,hash_failed=V,verity_version=1,data_device_name=253:1,hash_device_name=253:2,verity_algorithm=sha256,root_digest=${root},salt=ab,ignore_zero_blocks=n,check_at_most_once=n;`;
const dmPolicy = {
  version: 1,
  match_on: 'name',
  rules: {
    rootfs: {
      required: true,
      device_resume_required: true,
      allow_clear: false,
      device_remove: { allow_removal: false },
      table_load: { name: 'rootfs', num_targets: 1, targets: [{ target_name: 'verity', root_digest: 'aa' }] },
    },
  },
};

const event = (name: string, text: string) => recordedBuffer(name, Buffer.from(text));
const dm = {
  runtime_policy: base64(runtimePolicy({ ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: dmPolicy } })),
};
const resumed = (root: string) =>
  `${V}${metadata};active_table_hash=sha256:${digest('sha256', Buffer.from(table(root))).toString('hex')};current_device_capacity=8;`;

test('devices that are as dm_policy says pass, and what was seen is remembered from round to round', async () => {
  const agent = await relaxed.agent('dm-good');
  measure(agent, event('dm_table_load', table('aa')), event('dm_device_resume', resumed('aa')));
  await relaxed.enrol(agent, dm);
  await relaxed.until(agent.id, ({ attestation_count }) => attestation_count > 1);
  agent.lie({});
  measure(agent, event('dm_table_load', table('aa')));
  const id = 'ima.validation.dm.dm_table_load.multiple_table_loads';
  await assertFails(relaxed, agent, { event: id, message: /was loaded already/ });
});

for (const [what, events, id] of [
  [
    'another root digest',
    [
      ['dm_table_load', table('bb')],
      ['dm_device_resume', resumed('bb')],
    ],
    'ima.validation.dm.dm_table_load.target_data_mismatch',
  ],
  [
    'a table that is not the one loaded',
    [
      ['dm_table_load', table('aa')],
      ['dm_device_resume', resumed('bb')],
    ],
    'ima.validation.dm.dm_device_resume.active_table_mismatch',
  ],
  ['no device at all', [], 'ima.validation.dm.required_policy_not_in_use'],
  ['a device that is never resumed', [['dm_table_load', table('aa')]], 'ima.validation.dm.device_invalid_state'],
  ['an event that cannot be read', [['dm_table_load', 'x']], 'ima.validation.dm.parsing_failed'],
] as const) {
  test(`[MUST] caught by dm_policy: ${what}`, async () => {
    const agent = await relaxed.agent(`dm-${id.split('.').at(-1)}`);
    agent.lie({});
    measure(agent, ...events.map(([name, text]) => event(name, text)));
    await relaxed.enrol(agent, dm);
    await assertFails(relaxed, agent, { event: id, message: /./ });
  });
}

test('[MUST] a device in lines that the quote does not cover is neither set up nor taken away', async () => {
  const agent = await relaxed.agent('dm-uncertified');
  measure(agent, event('dm_table_load', table('aa')), event('dm_device_resume', resumed('aa')));
  await relaxed.enrol(agent, dm);
  await relaxed.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  // PCR 10 knows nothing of it, and the next time it is gone. Taken in, it would be a failure, and the device forgotten.
  const removal = `${V}device_active_metadata=${metadata};active_table_hash=sha256:${'00'.repeat(32)},remove_all=n;current_device_capacity=8;`;
  let shown = false;
  agent.lie({
    results: (truth) => {
      if (shown || truth.ima_measurement_list === '') return truth;
      shown = true;
      return {
        ...truth,
        ima_measurement_list: `${truth.ima_measurement_list}${event('dm_device_remove', removal).line}`,
      };
    },
  });
  agent.machine.append(violation, Buffer.alloc(32, 0xff));
  const { attestation_count: before } = await relaxed.status(agent.id);
  const status = await relaxed.until(
    agent.id,
    (one) => one.attestation_count > before + 3 || one.operational_state >= FAILED,
  );
  assert.deepEqual([shown, status.attestation_status], [true, 'PASS'], JSON.stringify(status.last_failures));
  measure(agent, event('dm_table_load', table('aa')));
  const failed = await relaxed.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.equal(failed.last_event_id, 'ima.validation.dm.dm_table_load.multiple_table_loads');
});

test('[MUST] caught: a list that always goes on beyond the quote, so that a missing device is not looked for', async () => {
  const agent = await relaxed.agent('dm-never-whole');
  let n = 0;
  // Each time one more entry is certified, and one more shown, so that the quotes keep up.
  agent.lie({
    results: (truth) => {
      agent.machine.append(violation, Buffer.alloc(32, 0xff));
      n++;
      return { ...truth, ima_measurement_list: `${truth.ima_measurement_list}${violation}` };
    },
  });
  await relaxed.enrol(agent, dm);
  const status = await relaxed.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.equal(status.attestation_count, 0, JSON.stringify(status));
  assert.match(status.last_failures[0]?.context.message ?? '', /devices_unsettled/);
  assert.ok(n > 1, 'it was asked again before');
});

test('[MUST] caught: a boot aggregate out of a boot log that does not lead to the quoted PCRs', async () => {
  const vector = (name: string) =>
    readFileSync(new URL(`../../packages/testing/vectors/debian12-uefi-vm/${name}`, import.meta.url));
  const [, foreign = ''] = /sha256:([0-9a-f]{64}) boot_aggregate/.exec(vector('ima.txt').toString()) ?? [];
  const boot = recordImaNg('boot_aggregate', 'sha256', Buffer.from(foreign, 'hex'));
  const agent = await relaxed.agent('borrowed-log');
  agent.lie({
    quote: (truth) =>
      agent.ak.quote({
        ...truth,
        pcrs: new Map([...(truth.pcrs ?? []), [10, digest('sha256', Buffer.alloc(32), boot.extendValue('sha256'))]]),
      }),
    results: (truth) => ({
      ...truth,
      ima_measurement_list: boot.line,
      mb_measurement_list: vector('bios.bin').toString('base64'),
    }),
  });
  await relaxed.enrol(agent, { runtime_policy: base64(withoutBoot()) });
  const id = 'ima.validation.ima-ng.not_in_allowlist';
  await assertFails(relaxed, agent, { event: id, message: new RegExp(`boot_aggregate.*${foreign}`) });
});

test('[MUST] the old option for violations counts against its name, as it always did, and is warned of', async (t) => {
  const legacy = await startAttackedVerifier({ settings: { ignore_tomtou_errors: 'True' } });
  t.after(() => legacy.stop());
  const agent = await violated(legacy, 'legacy-option', {});
  await assertFails(legacy, agent, { event: 'ima.validation.tomtou', message: /\/var\/log\/x/ });
  assert.match(legacy.log(), /ignore_tomtou_errors = True makes violations failures.*tomtou = fail/);
});
