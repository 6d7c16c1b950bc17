import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import { type Certificate, certificatePem, readCertificate } from './certificate.ts';
import {
  caExtension,
  commonName,
  extension,
  forgeCertificate,
  keyUsage,
  tlv,
  unorderedName,
} from './forge-certificate.ts';
import { endorsementProblemText, endorsementWarningText, readTrustAnchors, verifyEndorsement } from './trust-store.ts';

const now = new Date('2026-01-01T00:00:00Z');
const rsa = () => generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = () => generateKeyPairSync('ec', { namedCurve: 'P-384' });
const [root, intermediate, ek, stranger] = [rsa(), ec(), rsa(), rsa()];

const made = (parts: Parameters<typeof forgeCertificate>[0]): Certificate => {
  const parsed = readCertificate(forgeCertificate(parts));
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value;
};
const rootCa = (parts: Partial<Parameters<typeof forgeCertificate>[0]> = {}) =>
  made({
    subject: commonName('root'),
    issuer: commonName('root'),
    key: root.publicKey,
    signer: root.privateKey,
    extensions: [caExtension(), keyUsage(true)],
    ...parts,
  });
const intermediateCa = (parts: Partial<Parameters<typeof forgeCertificate>[0]> = {}) =>
  made({
    subject: commonName('intermediate'),
    issuer: commonName('root'),
    key: intermediate.publicKey,
    signer: root.privateKey,
    extensions: [caExtension(0), keyUsage(true)],
    ...parts,
  });
const leaf = (issuer: string, signer: KeyObject, parts: Partial<Parameters<typeof forgeCertificate>[0]> = {}) =>
  made({ subject: tlv(0x30), issuer: commonName(issuer), key: ek.publicKey, signer, extensions: [], ...parts });

const judge = (certificate: Certificate, anchors: readonly Certificate[], intermediates: readonly Certificate[] = []) =>
  verifyEndorsement({ certificate, intermediates, anchors, now });
const kindOf = (result: ReturnType<typeof judge>) => (result.ok ? 'accepted' : result.problem.kind);

test('a certificate signed by an anchor is accepted, with RSA PKCS#1, RSASSA-PSS and ECDSA', () => {
  assert.equal(kindOf(judge(leaf('root', root.privateKey), [rootCa()])), 'accepted');
  assert.equal(kindOf(judge(leaf('root', root.privateKey, { signWith: 'pss' }), [rootCa()])), 'accepted');
  assert.equal(kindOf(judge(leaf('intermediate', intermediate.privateKey), [intermediateCa()])), 'accepted');
});

test('a chain goes through intermediates of the store or of the agent to the anchor', () => {
  const certificate = leaf('intermediate', intermediate.privateKey);
  const result = judge(certificate, [rootCa()], [intermediateCa()]);
  assert.ok(result.ok);
  assert.deepEqual(
    result.chain.map(({ x509 }) => x509.subject),
    [undefined, 'CN=intermediate', 'CN=root'],
  );
  assert.equal(kindOf(judge(certificate, [rootCa()])), 'issuer_unknown');
});

test('an intermediate of the agent is no anchor', () => {
  const forgedRoot = rootCa({ key: stranger.publicKey, signer: stranger.privateKey });
  const certificate = leaf('root', stranger.privateKey);
  assert.equal(kindOf(judge(certificate, [rootCa()], [forgedRoot])), 'signature_wrong');
  assert.equal(kindOf(judge(certificate, [], [forgedRoot])), 'no_anchors');
});

test('a certificate that names the anchor but is signed by another key is refused', () => {
  assert.equal(kindOf(judge(leaf('root', stranger.privateKey), [rootCa()])), 'signature_wrong');
});

test('of two anchors with one name the one whose key fits is taken', () => {
  const renewed = rootCa({ key: stranger.publicKey, signer: stranger.privateKey });
  assert.equal(kindOf(judge(leaf('root', root.privateKey), [renewed, rootCa()])), 'accepted');
});

test('an issuer that is not a CA, may not sign certificates or has too many CAs below it is refused', () => {
  const certificate = leaf('root', root.privateKey);
  assert.equal(kindOf(judge(certificate, [rootCa({ extensions: [keyUsage(true)] })])), 'issuer_not_ca');
  assert.equal(
    kindOf(judge(certificate, [rootCa({ extensions: [caExtension(), keyUsage(false)] })])),
    'issuer_key_usage',
  );
  const short = rootCa({ extensions: [caExtension(0)] });
  assert.equal(
    kindOf(judge(leaf('intermediate', intermediate.privateKey), [short], [intermediateCa()])),
    'path_too_long',
  );
  const agentLeaf = made({
    subject: commonName('leaf'),
    issuer: commonName('root'),
    key: intermediate.publicKey,
    signer: root.privateKey,
    extensions: [],
  });
  assert.equal(kindOf(judge(leaf('leaf', intermediate.privateKey), [rootCa()], [agentLeaf])), 'issuer_not_ca');
});

test('an issuer with a critical extension that nobody understands is refused', () => {
  const constrained = rootCa({ extensions: [caExtension(), extension('2.5.29.30', true, tlv(0x30))] });
  assert.equal(kindOf(judge(leaf('root', root.privateKey), [constrained])), 'critical_extension_unknown');
});

test('expiry, a SHA-1 signature and a root without extensions are reported, not refused', () => {
  const old = leaf('root', root.privateKey, { notAfter: '240101000000Z', signWith: 'sha1' });
  const { extensions: _, ...plain } = {
    subject: commonName('root'),
    issuer: commonName('root'),
    key: root.publicKey,
    signer: root.privateKey,
    extensions: undefined,
  };
  const result = judge(old, [made(plain)]);
  assert.ok(result.ok);
  assert.deepEqual(
    result.warnings.map(({ kind }) => kind),
    ['expired', 'weak_signature', 'anchor_without_constraints'],
  );
  for (const warning of result.warnings) assert.ok(endorsementWarningText(warning).length > 20);
});

test('a malformed certificate is verified over the bytes as they came', () => {
  const certificate = leaf('root', root.privateKey, { subject: unorderedName('ek') });
  assert.ok(certificate.malformed !== undefined);
  assert.equal(kindOf(judge(certificate, [rootCa()])), 'accepted');
  const padded = readCertificate(Buffer.concat([certificate.der, Buffer.alloc(16)]));
  assert.ok(padded.ok);
  assert.equal(kindOf(judge(padded.value, [rootCa()])), 'accepted');
});

test('certificates that issue each other end the search', () => {
  const circle = [
    made({
      subject: commonName('a'),
      issuer: commonName('b'),
      key: ek.publicKey,
      signer: stranger.privateKey,
      extensions: [caExtension()],
    }),
    made({
      subject: commonName('b'),
      issuer: commonName('a'),
      key: stranger.publicKey,
      signer: ek.privateKey,
      extensions: [caExtension()],
    }),
  ];
  assert.equal(kindOf(judge(leaf('a', ek.privateKey), [rootCa()], circle)), 'issuer_unknown');
});

test('all certificates of every file are anchors, and what is none is reported with file and place', () => {
  const text = `${certificatePem(rootCa().der)}noise\n${certificatePem(intermediateCa().der)}`;
  const broken = certificatePem(Buffer.from('no certificate'));
  const anchors = readTrustAnchors([
    { name: 'vendor.pem', text },
    { name: 'broken.pem', text: broken },
  ]);
  assert.equal(anchors.certificates.length, 2);
  assert.deepEqual(
    anchors.problems.map(({ file, index, problem }) => [file, index, problem.kind]),
    [['broken.pem', 0, 'certificate_unreadable']],
  );
});

test('problems are told in words', () => {
  const result = judge(leaf('nobody', stranger.privateKey), [rootCa()]);
  assert.ok(!result.ok);
  assert.match(endorsementProblemText(result.problem), /issuer 'CN=nobody'/);
});
