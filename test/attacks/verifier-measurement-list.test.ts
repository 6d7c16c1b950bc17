import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { recordImaNg } from '@keylime/ima/record';
import type { Lies, LyingAgent } from '@keylime/testing/lying-agent';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  GET_QUOTE,
  INVALID_QUOTE,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Hole 7 and its relatives: root has run what the policy does not allow and writes the measurement list as it likes. It can
 * extend PCR 10 with any value, but cannot take back what the kernel extended.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier();
});
after(() => verifier?.stop());

const IMPLANT = '/usr/bin/implant';
const implant = recordImaNg(IMPLANT, 'sha256', digest('sha256', Buffer.from('implant')));
const [ALLOWED = ''] = ALLOWED_FILES;
const allowed = recordImaNg(ALLOWED, 'sha256', digest('sha256', Buffer.from(ALLOWED)));
/** `line` with another template hash column. */
const withColumn = (line: string, column: string): string => line.replace(/^(\d+) [0-9a-f]+ /, `$1 ${column} `);
/** What an honest replay of `line` extends PCR 10 with. */
const inputOf = (line: string): Buffer => {
  const parsed = parseImaLine(Buffer.from(line.trimEnd()));
  assert.ok(parsed.ok);
  return Buffer.from(parsed.value.templateInput);
};
const appended =
  (line: string, extendValue?: Uint8Array) =>
  ({ machine }: LyingAgent): Lies => {
    machine.append(line, extendValue);
    return {};
  };

const buffer = Buffer.from('kernel_version=6.9;');
const bufferLine = (text: string) => {
  const line = `10 ${'0'.repeat(39)}1 ima-buf sha256:${text} critical ${buffer.toString('hex')}\n`;
  return withColumn(line, digest('sha1', inputOf(line)).toString('hex'));
};
const BUFFER_DIGEST = digest('sha256', buffer).toString('hex');
const forgedBuffer = bufferLine(digest('sha256', Buffer.from('allowed')).toString('hex'));

type Attack = {
  readonly name: string;
  readonly lies: (agent: LyingAgent) => Lies;
  readonly event: string;
  readonly message: RegExp;
};

const attacks: readonly Attack[] = [
  {
    name: 'a file that the policy does not know',
    lies: appended(implant.line, implant.extendValue('sha256')),
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /File not found in allowlist: \/usr\/bin\/implant/,
  },
  {
    name: 'other content under an allowed name',
    lies: ({ machine }) => {
      machine.measure(ALLOWED, Buffer.from('implant'));
      return {};
    },
    event: 'ima.validation.ima-ng.runtime_policy_hash',
    message: /Hashes for file \/usr\/bin\/allowed don't match/,
  },
  {
    name: 'an entry left out of the list',
    lies: ({ machine }) => {
      machine.append('', implant.extendValue('sha256'));
      return {};
    },
    event: 'ima.pcr_mismatch',
    message: /IMA measurement list expected PCR 10 to be/,
  },
  {
    name: 'an entry written as that of an allowed file',
    lies: appended(allowed.line, implant.extendValue('sha256')),
    event: 'ima.pcr_mismatch',
    message: /IMA measurement list expected PCR 10 to be/,
  },
  {
    name: 'hole 7: a template hash of all ones, as the kernel extends for violations',
    lies: appended(withColumn(implant.line, 'f'.repeat(40)), implant.extendValue('sha256')),
    event: 'ima.validation.ima_hash',
    message: /Template hash of entry 1/,
  },
  {
    name: 'hole 7: all ones, with PCR 10 extended by ones as well',
    lies: appended(withColumn(implant.line, 'f'.repeat(40)), Buffer.alloc(32, 0xff)),
    event: 'ima.validation.ima_hash',
    message: /Template hash of entry 1/,
  },
  {
    name: 'a template hash of zeros of the wrong length, as if it were a violation',
    lies: appended(withColumn(implant.line, '0'.repeat(64)), implant.extendValue('sha256')),
    event: 'ima.validation.ima_hash',
    message: /Template hash of entry 1/,
  },
  {
    name: 'a violation that PCR 10 knows nothing of',
    lies: appended(withColumn(implant.line, '0'.repeat(40)), implant.extendValue('sha256')),
    event: 'ima.pcr_mismatch',
    message: /IMA measurement list expected/,
  },
  {
    name: 'a template hash of another entry',
    lies: appended(withColumn(implant.line, allowed.line.split(' ')[1] ?? ''), implant.extendValue('sha256')),
    event: 'ima.validation.ima_hash',
    message: /Template hash of entry 1/,
  },
  {
    name: 'hole 7: an allowed digest for a buffer that has another one',
    lies: appended(forgedBuffer, digest('sha256', inputOf(forgedBuffer))),
    event: 'ima.validation.ima_hash',
    message: /Digest of entry 1 is not that of its buffer/,
  },
  {
    name: 'an entry for another PCR than 10',
    lies: appended(allowed.line.replace(/^10/, '11'), allowed.extendValue('sha256')),
    event: 'ima.validation.ima_pcr',
    message: /not for PCR 10/,
  },
  {
    name: 'a line that cannot be read between lines that can',
    lies: appended('10 nothing to see here\n', implant.extendValue('sha256')),
    event: 'ima.parser.entry',
    message: /cannot be read/,
  },
  {
    name: 'a file whose name is not UTF-8',
    lies: ({ machine }) => {
      // The byte 0xff travels in JSON as U+DCFF.
      const line = implant.line.replace(IMPLANT, '/usr/bin/\udcff');
      machine.append(line, implant.extendValue('sha256'));
      return {};
    },
    event: 'ima.validation.ima_hash',
    message: /Template hash of entry 1/,
  },
  {
    name: 'a name with U+0000 in it',
    lies: appended(implant.line.replace(IMPLANT, '/usr/bin/allowed\u0000implant'), implant.extendValue('sha256')),
    event: 'ima.parser.entry',
    message: /cannot be read \(n-ng\)/,
  },
  {
    name: 'a name of a megabyte',
    lies: ({ machine }) => {
      const long = recordImaNg(`/${'a'.repeat(1_000_000)}`, 'sha256', Buffer.alloc(32));
      machine.append(long.line, long.extendValue('sha256'));
      return {};
    },
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /^File not found in allowlist: \/a{1000,5000}…/,
  },
  {
    name: 'no list, although PCR 10 is quoted',
    lies: () => ({ results: ({ ima_measurement_list: _, ...truth }) => truth }),
    event: 'pcr_validation.unused_pcr_10',
    message: /sent no measurement list/,
  },
  {
    name: 'a list from another entry on than was asked for',
    lies: ({ machine }) => {
      machine.append(implant.line, implant.extendValue('sha256'));
      return { results: (truth) => ({ ...truth, ima_measurement_list: '', ima_measurement_list_entry: 2 }) };
    },
    event: 'qoute_validation.invalid_ima_entry_nb',
    message: /starts at entry 2, entry 1 was asked for/,
  },
  {
    name: 'a list that begins at minus one',
    lies: () => ({ results: (truth) => ({ ...truth, ima_measurement_list_entry: -1 }) }),
    event: 'qoute_validation.invalid_data',
    message: /ima_measurement_list_entry: a count is wanted/,
  },
];

for (const [n, { name, lies, ...expected }] of attacks.entries()) {
  test(`[MUST] caught: ${name}`, async () => {
    const agent = await verifier.agent(`list-${n}`);
    await verifier.enrol(agent);
    await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
    agent.lie(lies(agent));
    await assertFails(verifier, agent, expected);
  });
}

test('[MUST] caught: a list that grows while PCR 10 stands still', async () => {
  const agent = await verifier.agent('growing');
  await verifier.enrol(agent);
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  agent.lie({});
  agent.machine.append(implant.line);
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state > GET_QUOTE);
  assert.deepEqual([status.operational_state, status.last_event_id], [INVALID_QUOTE, 'ima.quote_progress']);
  // It passes once: the list may be read a moment after the quote.
  assert.ok(status.attestation_count <= agent.truthful() + 1);
});

test('a list that is as it should be passes, buffers among it', async () => {
  const agent = await verifier.agent('honest');
  const line = bufferLine(BUFFER_DIGEST);
  agent.machine.append(line, digest('sha256', inputOf(line)));
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  await verifier.enrol(agent, {
    runtime_policy: base64(runtimePolicy({ 'ima-buf': { critical: [BUFFER_DIGEST] } })),
  });
  const { last_failures } = await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 2);
  assert.deepEqual(last_failures, []);
});

test('[MUST] entries beyond the quote are acted on neither way: they are asked for again', async () => {
  const agent = await verifier.agent('beyond');
  await verifier.enrol(agent);
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  let once = true;
  agent.lie({
    results: (truth) => {
      if (!once) return { ...truth };
      once = false;
      return { ...truth, ima_measurement_list: `${truth.ima_measurement_list}${implant.line}` };
    },
  });
  const asked = agent.asked.length;
  const before = await verifier.status(agent.id);
  const later = await verifier.until(agent.id, ({ attestation_count: n }) => n > before.attestation_count + 3);
  assert.deepEqual([later.operational_state, later.last_event_id], [GET_QUOTE, null]);
  assert.ok(
    agent.asked.slice(asked).every(({ entry }) => entry === 1),
    'the entry was not taken for certified',
  );
  // Once the TPM has it, it counts.
  agent.machine.append(implant.line, implant.extendValue('sha256'));
  const caught = await verifier.until(agent.id, ({ operational_state }) => operational_state > GET_QUOTE);
  assert.equal(caught.last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
});

test('[MUST] caught: a full list that does not start with boot_aggregate', async () => {
  const agent = await verifier.agent('no-boot-aggregate');
  agent.lie({
    quote: (truth) => {
      const pcr = digest('sha256', Buffer.alloc(32), allowed.extendValue('sha256'));
      return agent.ak.quote({ ...truth, pcrs: new Map([[10, pcr]]) });
    },
    results: (truth) => ({ ...truth, ima_measurement_list: allowed.line }),
  });
  await verifier.enrol(agent);
  await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /does not start with boot_aggregate/,
  });
});

test('[MUST] caught: no list and a PCR 10 of zeros, as of a machine without IMA', async () => {
  const agent = await verifier.agent('no-ima');
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, pcrs: new Map() }),
    results: (truth) => ({ ...truth, ima_measurement_list: '' }),
  });
  await verifier.enrol(agent);
  await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /does not start with boot_aggregate/,
  });
});

test('[MUST] caught: another boot_aggregate than the one allowed', async () => {
  const agent = await verifier.agent('other-boot');
  await verifier.enrol(agent, {
    runtime_policy: base64(runtimePolicy({ digests: { boot_aggregate: ['00'.repeat(32)] } })),
  });
  agent.lie({});
  await assertFails(verifier, agent, { event: 'ima.validation.ima-ng.runtime_policy_hash', message: /boot_aggregate/ });
});

test('[MUST] an agent whose policy is empty is judged by it: nothing is allowed', async () => {
  const agent = await verifier.agent('empty-policy');
  agent.lie({});
  await verifier.enrol(agent, { runtime_policy: '' });
  await assertFails(verifier, agent, { event: 'ima.validation.ima-ng.not_in_allowlist', message: /boot_aggregate/ });
});

test('[MUST] excludes admit no keys, whatever name they match', async () => {
  const agent = await verifier.agent('keyring');
  const { publicKey } = agent.ak;
  const der = publicKey.export({ type: 'spki', format: 'der' });
  const text = digest('sha256', der).toString('hex');
  const draft = `10 ${'0'.repeat(39)}1 ima-buf sha256:${text} .ima ${der.toString('hex')}\n`;
  const line = withColumn(draft, digest('sha1', inputOf(draft)).toString('hex'));
  agent.machine.append(line, digest('sha256', inputOf(line)));
  agent.lie({});
  await verifier.enrol(agent, { runtime_policy: base64(runtimePolicy({ excludes: ['.*'] })) });
  await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /File not found in allowlist: \.ima/,
  });
});

test('all failures of a list are told, the first one as the event', async () => {
  const agent = await verifier.agent('several');
  await verifier.enrol(agent);
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  agent.lie({});
  agent.machine.append(implant.line, implant.extendValue('sha256'));
  agent.machine.measure(ALLOWED, Buffer.from('implant'));
  const status = await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.not_in_allowlist',
    message: /implant/,
  });
  assert.deepEqual(
    status.last_failures.map(({ event_id }) => event_id),
    ['ima.validation.ima-ng.not_in_allowlist', 'ima.validation.ima-ng.runtime_policy_hash'],
  );
});
