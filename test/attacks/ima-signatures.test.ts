import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { commonName, forgeCertificate } from '@keylime/identity/forge-certificate';
import { encodeKeyring } from '@keylime/ima/keyring';
import { parseVerificationKey } from '@keylime/ima/public-key';
import { keyIdText } from '@keylime/ima/signature';
import { type SigningFixture, signatureBlob, signingFixture } from '@keylime/ima/signing-key.fixture';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { type KernelRecord, measure, recorded } from './ima-records.ts';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Hole 7, second half: root wants files of its own to pass by a signature. It writes lines and extends PCR 10 as it likes,
 * but has no key that the operator or the policy knows.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier({ process: true });
});
after(() => verifier?.stop());

const vendor = signingFixture('P-256');
const attacker = signingFixture('rsa');
const sha256 = (bytes: Uint8Array | string) => digest('sha256', Buffer.from(bytes));
const certificateOf = ({ publicKey, privateKey }: SigningFixture) =>
  forgeCertificate({ subject: commonName('k'), issuer: commonName('k'), key: publicKey, signer: privateKey });
const vendorCertificate = certificateOf(vendor);

const keyLine = (der: Buffer, claimed = der, keyring = '.ima') =>
  recorded(`ima-buf sha256:${sha256(claimed).toString('hex')} ${keyring} ${der.toString('hex')}`);
const fileLine = (path: string, blob: Uint8Array, content = path) =>
  recorded(`ima-sig sha256:${sha256(content).toString('hex')} ${path} ${Buffer.from(blob).toString('hex')}`);
const signedBy = (key: SigningFixture, path: string) => fileLine(path, key.sign(sha256(path)));

const modsig = (name: string): Buffer =>
  readFileSync(new URL(`../../packages/testing/vectors/modsig/${name}`, import.meta.url));
const MODULE = modsig('module.ko');
/** A module whose content is `content`, measured with the signature that was appended to it. */
const moduleLine = (signature: string, content: Uint8Array = MODULE) => {
  const whole = sha256(Buffer.concat([content, modsig(signature)])).toString('hex');
  const fields = `sha256:${whole} /lib/modules/demo.ko  sha256:${sha256(content).toString('hex')}`;
  return recorded(`ima-modsig ${fields} ${modsig(signature).toString('hex')}`);
};
/** A file with fs-verity, signed by the vendor; `type` is what the list takes its digest for. */
const verityLine = (path: string, type: 'verity' | 'ima' = 'verity') => {
  const tree = sha256(`tree of ${path}`);
  const blob = vendor.sign(sha256(Buffer.concat([Buffer.of(6, 4), tree])), { type: 6, version: 3 });
  return recorded(`ima-sigv2 ${type}:sha256:${tree.toString('hex')} ${path} ${blob.toString('hex')}`);
};

/** A file whose metadata, of root and mode 0755, the vendor signed; it is measured with `mode`. */
const metadataLine = (path: string, mode = 0o100755, content = path) => {
  const ima = Buffer.concat([Buffer.of(4, 4), sha256(path)]);
  const inode = Buffer.alloc(24);
  inode.writeUInt16LE(0o100755, 20);
  const blob = vendor.sign(sha256(Buffer.concat([ima, inode])), { type: 5 });
  const fields = `sha256:${sha256(content).toString('hex')} ${path} ${blob.toString('hex')}`;
  return recorded(`evm-sig ${fields} security.ima 22000000 ${ima.toString('hex')} 0 0 ${mode}`);
};
const moduleKey = parseVerificationKey(modsig('rsa.pem'));
assert.ok(moduleKey.ok);
const moduleKeys = { ima_sign_verification_keys: JSON.stringify(encodeKeyring([moduleKey.value])) };

/** Knows no file but that of the boot, and the vendor's key on `.ima`. */
const keyPolicy = runtimePolicy({ keyrings: { '.ima': [sha256(vendorCertificate).toString('hex')] } });
const keyring = (...keys: readonly SigningFixture[]) =>
  JSON.stringify(encodeKeyring(keys.map(({ publicKey: key, keyId }) => ({ key, keyId }))));

async function enrolled(id: string, changes: Readonly<Record<string, unknown>>): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent, changes);
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

/** Passes with what it has now: two more rounds at least are counted. */
async function assertPasses(agent: LyingAgent): Promise<void> {
  const { attestation_count: count } = await verifier.status(agent.id);
  const status = await verifier.until(
    agent.id,
    (one) => one.attestation_count > count + 2 || one.operational_state >= 7,
  );
  assert.equal(status.attestation_status, 'PASS', JSON.stringify(status.last_failures));
}

const UNKNOWN = 'ima.validation.ima-ng.not_in_allowlist';

test('files pass by signatures of keys that the enrolment, the policy, or a certified key load names', async () => {
  const byEnrolment = await enrolled('by-enrolment', { ima_sign_verification_keys: keyring(vendor) });
  measure(byEnrolment, signedBy(vendor, '/opt/signed'));
  await assertPasses(byEnrolment);
  const policy = runtimePolicy({ 'verification-keys': keyring(vendor) });
  const byPolicy = await enrolled('by-policy', { runtime_policy: base64(policy) });
  measure(byPolicy, signedBy(vendor, '/opt/signed'));
  await assertPasses(byPolicy);
  const learned = await enrolled('by-key-load', { runtime_policy: base64(keyPolicy) });
  measure(learned, keyLine(vendorCertificate), signedBy(vendor, '/opt/signed'));
  await assertPasses(learned);
});

test('files pass by signatures on every curve, by those of their Merkle trees, and by those of their metadata', async () => {
  const signers = (['rsa', 'P-256', 'P-384', 'P-521', 'secp256k1'] as const).map(signingFixture);
  const agent = await enrolled('every-kind', { ima_sign_verification_keys: keyring(vendor, ...signers) });
  measure(agent, ...signers.map((signer, n) => signedBy(signer, `/opt/signed-${n}`)));
  measure(agent, verityLine('/opt/verity'), metadataLine('/opt/metadata'));
  await assertPasses(agent);
});

test('kernel modules pass by the signatures appended to them', async () => {
  const agent = await enrolled('modules', moduleKeys);
  measure(agent, moduleLine('rsa-serial.p7s'), moduleLine('rsa-keyid.p7s'), moduleLine('rsa-attributes.p7s'));
  await assertPasses(agent);
});

test('learned keys are still there after the verifier was killed, and gone after a reboot of the machine', async () => {
  const agent = await enrolled('restart', { runtime_policy: base64(keyPolicy) });
  measure(agent, keyLine(vendorCertificate));
  await assertPasses(agent);
  await verifier.kill();
  await verifier.start();
  measure(agent, signedBy(vendor, '/opt/after-restart'));
  await assertPasses(agent);
  assert.ok(
    agent.asked.some(({ entry }) => entry > 1),
    'the verifier went on where it was',
  );
  agent.lie({});
  agent.machine.reboot();
  measure(agent, signedBy(vendor, '/opt/after-reboot'));
  await assertFails(verifier, agent, { event: UNKNOWN, message: new RegExp(keyIdText(vendor.keyId)) });
});

test('[MUST] a key in a line that the quote does not cover is never used', async () => {
  const agent = await enrolled('uncertified', { runtime_policy: base64(keyPolicy) });
  // The line stands behind one that the quote covers, PCR 10 says nothing of it, and the next time it is gone.
  let shown = false;
  agent.lie({
    results: (truth) => {
      if (shown || truth.ima_measurement_list === '') return truth;
      shown = true;
      return { ...truth, ima_measurement_list: `${truth.ima_measurement_list}${keyLine(vendorCertificate).line}` };
    },
  });
  agent.machine.append(`10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`, Buffer.alloc(32, 0xff));
  await assertPasses(agent);
  assert.ok(shown);
  measure(agent, signedBy(vendor, '/opt/implant'));
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state >= 7);
  assert.equal(status.last_event_id, UNKNOWN);
  assert.match(JSON.stringify(status.last_failures), /"signature":"key_unknown"/);
});

type Attack = {
  readonly name: string;
  readonly changes?: Readonly<Record<string, unknown>>;
  readonly records: () => readonly KernelRecord[];
  readonly event: string;
  readonly message: RegExp;
};

const IMPLANT = '/opt/implant';
const vendorKeys = { ima_sign_verification_keys: keyring(vendor) };
const attacks: readonly Attack[] = [
  {
    name: "the attacker's key under the digest of an allowed one",
    records: () => [keyLine(certificateOf(attacker), vendorCertificate), signedBy(attacker, IMPLANT)],
    event: 'ima.validation.ima_hash',
    message: /is not that of its buffer/,
  },
  {
    name: "the attacker's key as it is",
    records: () => [keyLine(certificateOf(attacker))],
    event: 'ima.validation.ima-ng.runtime_policy_hash',
    message: /Hashes for file \.ima don't match.*keyrings/,
  },
  {
    name: 'an allowed key on another keyring',
    records: () => [keyLine(vendorCertificate, vendorCertificate, '.evm')],
    event: UNKNOWN,
    message: /\.evm/,
  },
  {
    name: "the vendor's key id with the attacker's signature",
    changes: vendorKeys,
    records: () => [fileLine(IMPLANT, attacker.sign(sha256(IMPLANT), { keyId: vendor.keyId }))],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'a good signature taken from another file',
    changes: vendorKeys,
    records: () => [fileLine(IMPLANT, vendor.sign(sha256('/opt/signed')))],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'a signature by a key that nobody named',
    changes: vendorKeys,
    records: () => [signedBy(attacker, IMPLANT)],
    event: UNKNOWN,
    message: new RegExp(`"signature":"key_unknown","key_id":"${keyIdText(attacker.keyId)}"`),
  },
  {
    name: 'a signature that says another algorithm than the digest',
    changes: vendorKeys,
    records: () => [fileLine(IMPLANT, vendor.sign(sha256(IMPLANT), { hashId: 2 }))],
    event: UNKNOWN,
    message: /"signature":"wrong_digest_algorithm"/,
  },
  {
    name: 'a signature of metadata in the place of that of a file',
    changes: vendorKeys,
    records: () => [fileLine(IMPLANT, vendor.sign(sha256(IMPLANT), { type: 5 }))],
    event: UNKNOWN,
    message: /"signature":"not_of_this_digest"/,
  },
  {
    name: "the signature of a Merkle tree for a file's content",
    changes: vendorKeys,
    records: () => [verityLine(IMPLANT, 'ima')],
    event: UNKNOWN,
    message: /"signature":"not_of_this_digest"/,
  },
  {
    name: 'signed metadata of a file that is set-uid now',
    changes: vendorKeys,
    records: () => [metadataLine(IMPLANT, 0o104755)],
    event: UNKNOWN,
    message: new RegExp(`"signature":"invalid","key_id":"${keyIdText(vendor.keyId)}"`),
  },
  {
    name: 'signed metadata of a file with other content',
    changes: vendorKeys,
    records: () => [metadataLine(IMPLANT, undefined, 'implant')],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'a signature of 65,535 bytes',
    changes: vendorKeys,
    records: () => [
      fileLine(
        IMPLANT,
        signatureBlob({ type: 3, version: 2, hashId: 4, keyId: vendor.keyId }, Buffer.alloc(65_535, 1)),
      ),
    ],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'a signature taken from another module',
    changes: moduleKeys,
    records: () => [moduleLine('rsa-keyid.p7s', Buffer.from('implant'))],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'signed attributes of another module',
    changes: moduleKeys,
    records: () => [moduleLine('rsa-attributes.p7s', Buffer.from('implant'))],
    event: UNKNOWN,
    message: /"signature":"invalid"/,
  },
  {
    name: 'a module signed by a key that nobody named, and that names itself by issuer and serial number',
    changes: moduleKeys,
    records: () => [moduleLine('ec-serial.p7s')],
    event: UNKNOWN,
    message: /"signature":"key_unknown"/,
  },
  {
    name: 'a signature that brings its certificate, of a key that nobody named',
    changes: vendorKeys,
    records: () => [moduleLine('rsa-attached.p7s')],
    event: UNKNOWN,
    message: /"signature":"pkcs7"/,
  },
  {
    name: 'what is no signature at all, for an allowed file',
    records: () => [fileLine(ALLOWED_FILES[0] ?? '', Buffer.concat([Buffer.of(3, 2), Buffer.alloc(38, 3)]))],
    event: 'ima.validator.ima-sig.invalid_signature',
    message: /malformed \(40 bytes\).*"signature":"malformed","key_id":"03030303"/,
  },
  {
    name: 'a key of a kind that no kernel uses',
    records: () => [keyLine(Buffer.from(`302a300506032b6570032100${'11'.repeat(32)}`, 'hex'))],
    event: 'ima.invalid_key',
    message: /ed25519/,
  },
];

for (const [n, { name, changes, records, ...expected }] of attacks.entries()) {
  test(`[MUST] caught: ${name}`, async () => {
    const agent = await enrolled(`signed-${n}`, changes ?? { runtime_policy: base64(keyPolicy) });
    agent.lie({});
    measure(agent, ...records());
    await assertFails(verifier, agent, expected);
  });
}
