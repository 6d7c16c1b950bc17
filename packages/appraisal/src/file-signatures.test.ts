import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DER, readElement, readElements } from '@keylime/core/der';
import { commonName, forgeCertificate } from '@keylime/identity/forge-certificate';
import { encodeKeyring, type Keyring } from '@keylime/ima/keyring';
import { parseVerificationKey } from '@keylime/ima/public-key';
import { keyIdText } from '@keylime/ima/signature';
import { type SigningFixture, signatureBlob, signingFixture } from '@keylime/ima/signing-key.fixture';
import { appraiseLines, BOOT_LINE, bufferLine, kindsOf, lineOf, pcrAfter, policyWith, sha256 } from './list.fixture.ts';

const D = sha256('hello\n');
const DIGEST = Buffer.from(D, 'hex');
const FILE = '/opt/demo/hello';
const signer = signingFixture('P-256');
const stranger = signingFixture('rsa');

const keyringOf = (...keys: readonly SigningFixture[]): Keyring =>
  new Map(keys.map(({ keyId, publicKey: key }) => [keyId, { keyId, key }]));

/** DER of a certificate without a key identifier, so that its key has the computed id. */
const certificateOf = ({ publicKey, privateKey }: SigningFixture): Buffer =>
  forgeCertificate({ subject: commonName('k'), issuer: commonName('k'), key: publicKey, signer: privateKey });

const signedLine = (blob: Uint8Array, digest = D) =>
  lineOf(`ima-sig sha256:${digest} ${FILE} ${Buffer.from(blob).toString('hex')}`);

const findingOf = (blob: Uint8Array, verificationKeys?: Keyring, line = signedLine(blob)) =>
  kindsOf(appraiseLines([BOOT_LINE, line], { verificationKeys }), 'signature');

test('a file that no policy lists passes by its signature', () => {
  for (const kind of ['rsa', 'P-256', 'P-384', 'P-521', 'secp256k1'] as const) {
    const key = signingFixture(kind);
    assert.deepEqual(findingOf(key.sign(DIGEST), keyringOf(stranger, key)), [], kind);
  }
});

test('keys of the policy are used where the enrolment names none, and not where it does', () => {
  const keyring = JSON.stringify(encodeKeyring(keyringOf(signer).values()));
  const policy = policyWith({ 'verification-keys': keyring });
  const lines = [BOOT_LINE, signedLine(signer.sign(DIGEST))];
  assert.deepEqual(kindsOf(appraiseLines(lines, { policy })), []);
  const overridden = appraiseLines(lines, { policy, verificationKeys: keyringOf(stranger) });
  assert.deepEqual(kindsOf(overridden), ['1 ima_path_unknown']);
});

test('a signature that does not help says why', () => {
  const id = keyIdText(signer.keyId);
  const keys = keyringOf(signer);
  const good = signer.sign(DIGEST);
  const cases: readonly (readonly [Uint8Array, Keyring, object])[] = [
    [good, new Map(), { keyId: id, problem: 'key_unknown' }],
    [good, keyringOf(stranger), { keyId: id, problem: 'key_unknown' }],
    [signer.sign(createHash('sha256').update('x').digest()), keys, { keyId: id, problem: 'invalid' }],
    [stranger.sign(DIGEST, { keyId: signer.keyId }), keys, { keyId: id, problem: 'invalid' }],
    [signer.sign(DIGEST, { hashId: 2 }), keys, { keyId: id, problem: 'wrong_digest_algorithm' }],
    [signer.sign(DIGEST, { type: 5 }), keys, { keyId: id, problem: 'not_of_this_digest' }],
    [signer.sign(DIGEST, { hashId: 18 }), keys, { keyId: id, problem: 'hash_algorithm' }],
    [signer.sign(DIGEST, { type: 6 }), keys, { keyId: id, problem: 'version' }],
    // The header of version 1 has no key id in this place.
    [signer.sign(DIGEST, { version: 1 }), keys, { problem: 'version' }],
  ];
  for (const [blob, keyring, signature] of cases) {
    assert.deepEqual(findingOf(blob, keyring), [`1 ima_path_unknown ${JSON.stringify(signature)}`]);
  }
});

test('either suffices: a listed digest with a bad signature, a good signature with a digest that is not listed', () => {
  const listed = policyWith({ digests: { [FILE]: [D] } });
  const other = policyWith({ digests: { [FILE]: [sha256('other')] } });
  const excluded = policyWith({ excludes: ['/opt/'] });
  const bad = [BOOT_LINE, signedLine(stranger.sign(DIGEST, { keyId: signer.keyId }))];
  const good = [BOOT_LINE, signedLine(signer.sign(DIGEST))];
  const verificationKeys = keyringOf(signer);
  assert.deepEqual(kindsOf(appraiseLines(bad, { policy: listed, verificationKeys })), []);
  assert.deepEqual(kindsOf(appraiseLines(bad, { policy: excluded, verificationKeys })), []);
  assert.deepEqual(kindsOf(appraiseLines(good, { policy: other, verificationKeys })), []);
  assert.deepEqual(kindsOf(appraiseLines(bad, { policy: other, verificationKeys })), ['1 ima_digest_not_allowed']);
});

test('what has not the shape of a signature fails even for files that are listed or excluded', () => {
  const cut = signer.sign(DIGEST).subarray(0, -1);
  for (const changes of [{ digests: { [FILE]: [D] } }, { excludes: ['/opt/'] }]) {
    const result = appraiseLines([BOOT_LINE, signedLine(cut)], { policy: policyWith(changes) });
    assert.deepEqual(kindsOf(result, 'keyId'), [`1 ima_signature_malformed "${keyIdText(signer.keyId)}"`]);
  }
});

test('what begins as no signature of a kernel fails as malformed: a buffer could be shown as a file by it', () => {
  for (const type of [1, 2, 4, 0x30, 0x64]) {
    const result = appraiseLines([BOOT_LINE, signedLine(signer.sign(DIGEST, { type }))], {
      policy: policyWith({ digests: { [FILE]: [D] } }),
    });
    assert.deepEqual(kindsOf(result), ['1 ima_signature_malformed']);
  }
});

test('a signature of the largest size is refused, not choked on', () => {
  const blob = signatureBlob({ type: 3, version: 2, hashId: 4, keyId: signer.keyId }, Buffer.alloc(65_535, 0x30));
  assert.deepEqual(findingOf(blob, keyringOf(signer)), [
    `1 ima_path_unknown {"keyId":"${keyIdText(signer.keyId)}","problem":"invalid"}`,
  ]);
});

test('fs-verity digests are signed by their own kind of signature, and content digests are not', () => {
  const idHash = createHash('sha256').update(Uint8Array.of(6, 4)).update(DIGEST).digest();
  const verity = signer.sign(idHash, { type: 6, version: 3 });
  const line = (type: string, blob: Uint8Array) =>
    lineOf(`ima-sigv2 ${type}:sha256:${D} ${FILE} ${Buffer.from(blob).toString('hex')}`);
  const keys = keyringOf(signer);
  assert.deepEqual(findingOf(verity, keys, line('verity', verity)), []);
  const content = signer.sign(DIGEST);
  assert.deepEqual(findingOf(content, keys, line('ima', content)), []);
  const id = keyIdText(signer.keyId);
  const wrong = [`1 ima_path_unknown {"keyId":"${id}","problem":"not_of_this_digest"}`];
  assert.deepEqual(findingOf(verity, keys, line('ima', verity)), wrong);
  assert.deepEqual(findingOf(content, keys, line('verity', content)), wrong);
});

/** A line of template `evm-sig` for a file whose security.ima is its digest. */
function evmLine(blob: Uint8Array, { ima = Buffer.concat([Buffer.of(4, 4), DIGEST]), mode = 0o100755 } = {}): string {
  const capability = Buffer.from('0100000200000000', 'hex');
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32LE(ima.length, 0);
  lengths.writeUInt32LE(capability.length, 4);
  const values = Buffer.concat([ima, capability]).toString('hex');
  const names = 'security.ima|security.capability';
  const sig = Buffer.from(blob).toString('hex');
  return lineOf(`evm-sig sha256:${D} ${FILE} ${sig} ${names} ${lengths.toString('hex')} ${values} 1000 100 ${mode}`);
}

/** What the kernel hashes for a portable signature of that file. */
function evmDigest(ima = Buffer.concat([Buffer.of(4, 4), DIGEST])): Buffer {
  const inode = Buffer.from(`${'00'.repeat(12)}e803000064000000ed810000`, 'hex');
  return createHash('sha256').update(ima).update(Buffer.from('0100000200000000', 'hex')).update(inode).digest();
}

test('an EVM portable signature over metadata that names the digest lets a file pass', () => {
  const blob = signer.sign(evmDigest(), { type: 5 });
  const keys = keyringOf(signer);
  assert.deepEqual(findingOf(blob, keys, evmLine(blob)), []);
  const id = keyIdText(signer.keyId);
  const invalid = [`1 ima_path_unknown {"keyId":"${id}","problem":"invalid"}`];
  assert.deepEqual(findingOf(blob, keys, evmLine(blob, { mode: 0o104755 })), invalid, 'set-uid was not signed');
  const stale = Buffer.concat([Buffer.of(4, 4), Buffer.from(sha256('old'), 'hex')]);
  const old = signer.sign(evmDigest(stale), { type: 5 });
  assert.deepEqual(findingOf(old, keys, evmLine(old, { ima: stale })), invalid, 'metadata of another content');
  const file = signer.sign(evmDigest(), { type: 3 });
  assert.deepEqual(findingOf(file, keys, evmLine(file)), invalid, 'a signature of a file is none of metadata');
  // Of the same content nobody gets the same digest, but nothing else tells the two apart.
  const fields = evmLine(blob).split(' ').slice(3).join(' ');
  const format = 'd-ngv2|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode';
  assert.deepEqual(findingOf(blob, keys, lineOf(`${format} ima:${fields}`)), []);
  assert.deepEqual(findingOf(blob, keys, lineOf(`${format} verity:${fields}`)), invalid, 'metadata of a Merkle tree');
});

test('the boot aggregate has no metadata', () => {
  const boot = lineOf(`evm-sig sha256:${sha256('boot')} boot_aggregate       `);
  assert.deepEqual(kindsOf(appraiseLines([boot])), []);
});

test('a key that the policy lists for .ima is learned, and verifies what comes after it, in this round and the next', () => {
  const der = certificateOf(signer);
  const policy = policyWith({ keyrings: { '.ima': [sha256(der)] } });
  const first = [BOOT_LINE, bufferLine('.ima', der), signedLine(signer.sign(DIGEST))];
  const result = appraiseLines(first, { policy });
  assert.deepEqual(kindsOf(result), []);
  assert.deepEqual(result.learnedKeyrings?.['.ima']?.keyids, [signer.keyId]);
  const second = [lineOf(`ima-sig sha256:${D} /opt/more ${signer.sign(DIGEST).toString('hex')}`)];
  const next = { policy, firstEntry: 3, runningPcr: result.runningPcr };
  assert.deepEqual(kindsOf(appraiseLines(second, { ...next, learnedKeyrings: result.learnedKeyrings })), []);
  assert.deepEqual(kindsOf(appraiseLines(second, next)), ['3 ima_path_unknown'], 'forgotten keys verify nothing');
  const restarted = appraiseLines([BOOT_LINE, ...second], { policy, learnedKeyrings: result.learnedKeyrings });
  assert.deepEqual(kindsOf(restarted), ['1 ima_path_unknown'], 'a full list starts without learned keys');
});

test('a key that comes after a signature does not verify it', () => {
  const der = certificateOf(signer);
  const policy = policyWith({ keyrings: { '.ima': [sha256(der)] } });
  const lines = [BOOT_LINE, signedLine(signer.sign(DIGEST)), bufferLine('.ima', der)];
  assert.deepEqual(kindsOf(appraiseLines(lines, { policy })), ['1 ima_path_unknown']);
});

test('keys beyond the quote are not learned', () => {
  const der = certificateOf(signer);
  const policy = policyWith({ keyrings: { '.ima': [sha256(der)] } });
  const result = appraiseLines([BOOT_LINE, bufferLine('.ima', der)], { policy, quotedPcr: pcrAfter([BOOT_LINE]) });
  assert.deepEqual([kindsOf(result), result.learnedKeyrings], [[], undefined]);
});

test('only keys of .ima verify files, only keys of .evm metadata, and those of other keyrings nothing', () => {
  const der = certificateOf(signer);
  const evmBlob = signer.sign(evmDigest(), { type: 5 });
  for (const [keyring, file, metadata] of [
    ['.ima', true, false],
    ['.evm', false, true],
    ['.builtin_trusted_keys', false, false],
  ] as const) {
    const policy = policyWith({ keyrings: { [keyring]: [sha256(der)] } });
    const passes = (line: string) =>
      appraiseLines([BOOT_LINE, bufferLine(keyring, der), line], { policy }).failures.length === 0;
    assert.deepEqual([passes(signedLine(signer.sign(DIGEST))), passes(evmLine(evmBlob))], [file, metadata], keyring);
  }
});

test('keys of ignored keyrings pass and are not learned; no exclude admits a key', () => {
  const der = certificateOf(signer);
  const lines = [BOOT_LINE, bufferLine('.ima', der), signedLine(signer.sign(DIGEST))];
  for (const ignored of ['.ima', '*']) {
    const policy = policyWith({ ima: { ignored_keyrings: [ignored] } });
    assert.deepEqual(kindsOf(appraiseLines(lines, { policy })), ['2 ima_path_unknown'], ignored);
  }
  const excluding = policyWith({ excludes: ['.*'] });
  const result = appraiseLines(lines, { policy: excluding });
  assert.deepEqual([kindsOf(result, 'map'), result.learnedKeyrings], [['1 ima_path_unknown "keyrings"'], undefined]);
});

test("a key under another key's digest fails, and teaches nothing", () => {
  const der = certificateOf(signer);
  const evil = certificateOf(stranger);
  const policy = policyWith({ keyrings: { '.ima': [sha256(der)] } });
  const forged = lineOf(`ima-buf sha256:${sha256(der)} .ima ${evil.toString('hex')}`);
  const result = appraiseLines([BOOT_LINE, forged, signedLine(stranger.sign(DIGEST))], { policy });
  assert.deepEqual(kindsOf(result), ['1 ima_buffer_digest_mismatch', '2 ima_path_unknown']);
});

const modsig = (name: string): Buffer => readFileSync(new URL(`../../testing/vectors/modsig/${name}`, import.meta.url));

function vectorKey(name: string): Keyring {
  const parsed = parseVerificationKey(modsig(name));
  assert.ok(parsed.ok);
  return new Map([[parsed.value.keyId, parsed.value]]);
}

/** A module with its signature appended: the digest of both together is that of nothing that a policy lists. */
const moduleLineOf = (signature: Buffer, appended = `sha256:${sha256(modsig('module.ko'))}`) =>
  lineOf(
    `ima-modsig sha256:${sha256('module and signature')} /lib/modules/demo.ko  ${appended} ${signature.toString('hex')}`,
  );
const moduleLine = (signature: string, appended?: string) => moduleLineOf(modsig(signature), appended);

const moduleFinding = (line: string, verificationKeys: Keyring) =>
  kindsOf(appraiseLines([BOOT_LINE, line], { verificationKeys }), 'signature');

test('a module passes by the signature appended to it, whichever way it names its key', () => {
  for (const name of ['rsa-serial.p7s', 'rsa-keyid.p7s', 'rsa-attributes.p7s']) {
    assert.deepEqual(moduleFinding(moduleLine(name), new Map([...keyringOf(stranger), ...vectorKey('rsa.pem')])), []);
  }
  for (const name of ['ec-serial.p7s', 'ec-keyid.p7s']) {
    assert.deepEqual(moduleFinding(moduleLine(name), vectorKey('ec.pem')), []);
  }
});

test('a key that the kernel loaded onto .ima verifies modules from there on', () => {
  const certificate = new X509Certificate(modsig('rsa.pem')).raw;
  const policy = policyWith({ keyrings: { '.ima': [sha256(certificate)] } });
  const load = bufferLine('.ima', certificate);
  assert.deepEqual(kindsOf(appraiseLines([BOOT_LINE, load, moduleLine('rsa-serial.p7s')], { policy })), []);
  assert.deepEqual(kindsOf(appraiseLines([BOOT_LINE, moduleLine('rsa-serial.p7s'), load], { policy })), [
    '1 ima_path_unknown',
  ]);
});

test('an appended signature that does not help says why', () => {
  const keys = vectorKey('rsa.pem');
  const [keyId = 0] = keys.keys();
  const id = { keyId: keyIdText(keyId) };
  const serial = { keySerial: new X509Certificate(modsig('rsa.pem')).serialNumber.toLowerCase() };
  const other = `sha256:${sha256('other content')}`;
  for (const [line, keyring, finding] of [
    [moduleLine('rsa-keyid.p7s'), keyringOf(stranger), { ...id, problem: 'key_unknown' }],
    [moduleLine('rsa-serial.p7s'), keyringOf(stranger), { ...serial, problem: 'key_unknown' }],
    [moduleLine('rsa-keyid.p7s', other), keys, { ...id, problem: 'invalid' }],
    [moduleLine('rsa-attributes.p7s', other), keys, { ...id, problem: 'invalid' }],
    [moduleLine('rsa-sha512.p7s'), keys, { ...id, problem: 'wrong_digest_algorithm' }],
    [moduleLine('rsa-keyid.p7s', ''), keys, { ...id, problem: 'not_of_this_digest' }],
    [moduleLine('rsa-attached.p7s'), keys, { problem: 'pkcs7' }],
    [moduleLine('module.ko'), keys, { problem: 'pkcs7' }],
  ] as const) {
    assert.deepEqual(moduleFinding(line, keyring), [`1 ima_path_unknown ${JSON.stringify(finding)}`]);
  }
});

test('a signature over a file says nothing of the digest that it was measured with', () => {
  const digest = sha256(modsig('module.ko'));
  const line = lineOf(`ima-modsig sha256:${digest} ${FILE}   ${modsig('rsa-keyid.p7s').toString('hex')}`);
  assert.deepEqual(moduleFinding(line, vectorKey('rsa.pem')), [
    `1 ima_path_unknown {"keyId":"${keyIdText([...vectorKey('rsa.pem').keys()][0] ?? 0)}","problem":"not_of_this_digest"}`,
  ]);
});

/** As many P-256 keys, and then the right one. */
const keyringBehind = (strangers: number): Keyring =>
  new Map([
    ...Array.from({ length: strangers }, () => [...keyringOf(signingFixture('P-256'))]).flat(),
    ...vectorKey('ec.pem'),
  ]);

/** The same signature as if so many had made it. */
function bySigners(name: string, count: number): Buffer {
  const element = (tag: number, ...parts: readonly Buffer[]): Buffer => {
    const content = Buffer.concat(parts);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(content.length);
    return Buffer.concat([Buffer.of(tag, 0x82), length, content]);
  };
  const [type, content] = readElements(readElement(modsig(name)).content);
  const fields = readElements(readElement(content?.content ?? Buffer.alloc(0)).content);
  const [infos, before] = [fields.at(-1)?.content ?? Buffer.alloc(0), fields.slice(0, -1)];
  const signedData = element(
    DER.sequence,
    ...before.map(({ bytes }) => bytes),
    element(DER.set, ...Array.from({ length: count }, () => infos)),
  );
  return element(DER.sequence, type?.bytes ?? Buffer.alloc(0), element(0xa0, signedData));
}

test('of a signer that names no key id a bounded number of keys is tried, those only that it can be by', () => {
  const many = Array.from({ length: 20 }, () => [...keyringOf(signingFixture('P-256'))]).flat();
  assert.deepEqual(moduleFinding(moduleLine('rsa-serial.p7s'), new Map([...many, ...vectorKey('rsa.pem')])), []);
  assert.deepEqual(moduleFinding(moduleLine('ec-serial.p7s'), keyringBehind(15)), []);
  assert.deepEqual(moduleFinding(moduleLine('ec-serial.p7s'), keyringBehind(16)), [
    '1 ima_path_unknown {"keySerial":"5678","problem":"key_unknown"}',
  ]);
});

test('signers of one file share the attempts', () => {
  const line = (signers: number) => moduleLineOf(bySigners('ec-serial.p7s', signers));
  assert.deepEqual(moduleFinding(line(8), keyringBehind(1)), []);
  assert.deepEqual(moduleFinding(line(8), keyringBehind(2)), [
    '1 ima_path_unknown {"keySerial":"5678","problem":"key_unknown"}',
  ]);
  assert.deepEqual(moduleFinding(line(2), keyringBehind(7)), []);
  assert.deepEqual(moduleFinding(line(9), keyringBehind(0)), ['1 ima_path_unknown {"problem":"pkcs7"}']);
});
