import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { signingFixture } from '@keylime/ima/signing-key.fixture';
import { type KernelRecord, measure, recorded, recordedBuffer, shownAs } from './ima-records.ts';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * The hash of a record covers the bytes of its fields and not the name of its template. Root cannot change what the kernel has
 * extended, but in the list it can give the record another name, so that the bytes say something else: that a key or a
 * device was a file, which excludes accept, or that a file has the digest of another.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier({ process: true });
});
after(() => verifier?.stop());

const sha256 = (bytes: Uint8Array | string) => digest('sha256', Buffer.from(bytes)).toString('hex');
const key = signingFixture('P-256').publicKey.export({ format: 'der', type: 'spki' });
const table = Buffer.from('dm_version=4.45.0;name=evil,uuid=,major=253,minor=0,minor_count=1,num_targets=1;');
const IMPLANT = '/opt/implant';
/** Digest of the content that is allowed at `IMPLANT`, SHA-1: what else is there is to pass for it. */
const ALLOWED_SHA1 = `03${'5a'.repeat(19)}`;

/** Whoever wrote it meant files only. */
const policy = {
  runtime_policy: base64(
    runtimePolicy({
      excludes: ['[^/]'],
      digests: { ...JSON.parse(runtimePolicy()).digests, [IMPLANT]: [ALLOWED_SHA1, sha256('allowed')] },
      ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: { version: 1, match_on: 'name', rules: {} } },
    }),
  ),
};

/** Begins like a key, and has after its first seven bytes the number of those that follow, like a signature. */
const sized = Buffer.alloc(9 + 0x0102, 1);
sized.writeUInt32BE(0x30820107);
sized.writeUInt16BE(0x0102, 7);

const keyLoad = recordedBuffer('.ima', key);
const tableLoad = recordedBuffer('dm_table_load', table);
const implant = sha256('implant');
/** The file has an extended attribute that root chose. */
const chosen = Buffer.concat([Buffer.from('sha256:\0'), Buffer.from(sha256('allowed'), 'hex')]).toString('hex');
const metadata = recorded(`evm-sig sha256:${implant} ${IMPLANT}  security.selinux 28000000 ${chosen} 0 0 33261`);
const signed = recorded(`ima-sig sha256:${implant} ${IMPLANT} ${ALLOWED_SHA1}`);
const module = recorded(`ima-modsig sha256:${implant} ${IMPLANT}  sha256:${sha256('allowed')} 3000`);
const bufferAs = (format: string, name: string, bytes: Buffer) =>
  shownAs(recordedBuffer(name, bytes), `${format} sha256:${sha256(bytes)} ${name} ${bytes.toString('hex')}`);

const UNREADABLE = { event: 'ima.parser.entry', message: /Entry \d+ cannot be read \(template_format\)/ };
const MALFORMED = { event: 'ima.validator.ima-sig.invalid_signature', message: /is malformed/ };
const attacks: readonly (readonly [
  what: string,
  record: KernelRecord,
  expected: { readonly event: string; readonly message: RegExp },
])[] = [
  ['a key shown as attributes of a file', bufferAs('d-ng|n-ng|xattrvalues', '.ima', key), UNREADABLE],
  ['a device shown as attributes of a file', bufferAs('d-ng|n-ng|xattrvalues', 'dm_table_load', table), UNREADABLE],
  ['a device shown as an appended signature', bufferAs('d-ng|n-ng|modsig', 'dm_table_load', table), UNREADABLE],
  ['a key shown as the signature of a file', bufferAs('ima-sig', '.ima', key), MALFORMED],
  ['a key of the size that a signature would say', bufferAs('ima-sig', '.ima', sized), MALFORMED],
  ['a device shown as the signature of a file', bufferAs('ima-sig', 'dm_table_load', table), MALFORMED],
  [
    'a device shown as the signature of a file, by a format',
    bufferAs('d-ng|n-ng|sig', 'dm_table_load', table),
    MALFORMED,
  ],
  [
    "a signature shown as the file's digest",
    shownAs(signed, `d-modsig|n-ng|d sha256:${implant} ${IMPLANT} ${ALLOWED_SHA1}`),
    UNREADABLE,
  ],
  [
    "the digest of what is signed shown as the file's",
    shownAs(module, `d-modsig|n-ng|sig|d-ng|modsig sha256:${implant} ${IMPLANT}  sha256:${sha256('allowed')} 3000`),
    UNREADABLE,
  ],
  [
    "an attribute shown as the file's digest",
    shownAs(
      metadata,
      `d-modsig|n-ng|evmsig|xattrnames|xattrlengths|d-ng|iuid|igid|imode sha256:${implant} ${IMPLANT}  security.selinux 28000000 sha256:${sha256('allowed')} 0 0 33261`,
    ),
    UNREADABLE,
  ],
];

for (const [n, [what, record, expected]] of attacks.entries()) {
  test(`[MUST] caught: ${what}`, async () => {
    const agent = await verifier.agent(`relabelled-${n}`);
    await verifier.enrol(agent, policy);
    await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
    agent.lie({});
    measure(agent, record);
    await assertFails(verifier, agent, expected);
  });
}

test('the same records under their own names fail for what they are', async () => {
  for (const [n, record, event] of [
    [0, keyLoad, 'ima.validation.ima-ng.not_in_allowlist'],
    [1, tableLoad, 'ima.validation.dm.parsing_failed'],
    [2, metadata, 'ima.validation.ima-ng.runtime_policy_hash'],
    [3, module, 'ima.validation.ima-ng.runtime_policy_hash'],
  ] as const) {
    const agent = await verifier.agent(`named-${n}`);
    measure(agent, record);
    await verifier.enrol(agent, policy);
    const { last_event_id } = await verifier.until(agent.id, ({ operational_state }) => operational_state >= 7);
    assert.equal(last_event_id, event);
  }
});

test('a kernel with a format of its own is attested', async () => {
  const [file = '', other = ''] = ALLOWED_FILES;
  const signature = signingFixture('P-256').sign(Buffer.from(sha256(other), 'hex'));
  const agent = await verifier.agent('own-format');
  measure(
    agent,
    recorded(`d-ng|n-ng sha256:${sha256(file)} ${file}`),
    recorded(`d-ng|n-ng|sig sha256:${sha256(other)} ${other} ${Buffer.from(signature).toString('hex')}`),
    recorded(`d-ng|n-ng|sig|iuid|igid|imode sha256:${sha256(file)} ${file}  0 0 33261`),
  );
  await verifier.enrol(agent, policy);
  const status = await verifier.until(agent.id, (one) => one.attestation_count > 1 || one.operational_state >= 7);
  assert.equal(status.attestation_status, 'PASS', JSON.stringify(status.last_failures));
});
