import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { commonName, forgeCertificate, oid, tlv } from '@keylime/identity/forge-certificate';
import { parseImaLine } from '@keylime/ima/entry';
import { encodeUtf8 } from '@keylime/ima/list-text';
import { type AttackedVerifier, GET_QUOTE, INVALID_QUOTE, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Whatever stands in a list is judged: a failure of the list with the index of its entry, never an error of the service,
 * which would leave the machine without a verdict.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier({ process: true });
});
after(() => verifier?.stop());

/** DER SEQUENCEs in each other. */
function nested(depth: number): Buffer {
  let bytes: Buffer = Buffer.alloc(0);
  for (let i = 0; i < depth; i++) {
    const length = bytes.length < 0x80 ? Buffer.of(bytes.length) : Buffer.of(0x82, bytes.length >> 8, bytes.length);
    bytes = Buffer.concat([Buffer.of(0x30), length, bytes]);
  }
  return bytes;
}

/** The line with the hash of its fields, if it can be read, so that what is in them is looked at. */
function withRightHash(line: string): string {
  const parsed = parseImaLine(encodeUtf8(line.trimEnd()));
  return parsed.ok ? line.replace(H, digest('sha1', parsed.value.templateInput).toString('hex')) : line;
}

const spki = ({ publicKey }: { readonly publicKey: KeyObject }): Buffer =>
  publicKey.export({ format: 'der', type: 'spki' });
const DSA_KEY = spki(generateKeyPairSync('dsa', { modulusLength: 1024, divisorLength: 160 }));
const X25519_KEY = spki(generateKeyPairSync('x25519'));
const EC_KEYS = generateKeyPairSync('ec', { namedCurve: 'P-256' });
/** A certificate of the point at infinity, which OpenSSL reads. */
const NO_POINT = forgeCertificate({
  ...{ subject: commonName('k'), issuer: commonName('k'), key: EC_KEYS.publicKey, signer: EC_KEYS.privateKey },
  publicKeyInfo: tlv(0x30, tlv(0x30, oid('1.2.840.10045.2.1'), oid('1.2.840.10045.3.1.7')), tlv(0x03, Buffer.of(0, 0))),
});
const bufferDigest = (bytes: Buffer): string => `sha256:${digest('sha256', bytes).toString('hex')}`;

const H = '1'.repeat(40);
const D = `sha256:${'ab'.repeat(32)}`;
const lines: readonly (readonly [what: string, line: string])[] = [
  ['ten thousand fields', `10 ${H} ima-sig ${D} ${'x '.repeat(10_000)}\n`],
  ['ten thousand spaces', `10 ${H} ima-ng ${D} ${' '.repeat(10_000)}\n`],
  ['only spaces', `${' '.repeat(500)}\n`],
  ['a NUL', `10 ${H} ima-ng ${D} /a\u0000b\n`],
  ['what is no UTF-8', `10 ${H} ima-ng ${D} /\udcff\udc80\n`],
  ['a lone surrogate', `10 ${H} ima-ng ${D} /\ud800\n`],
  ['a carriage return', `10 ${H} ima-ng ${D} /a\r\n`],
  ['line separators of Unicode', `10 ${H} ima-ng ${D} /a\u2028b\u0085c\n`],
  ['a PCR that is no number', `ten ${H} ima-ng ${D} /a\n`],
  ['a PCR beyond all', `99 ${H} ima-ng ${D} /a\n`],
  ['a negative PCR', `-1 ${H} ima-ng ${D} /a\n`],
  ['a hash of odd length', `10 ${H}1 ima-ng ${D} /a\n`],
  ['a hash that is none', `10 ${'z'.repeat(40)} ima-ng ${D} /a\n`],
  ['an empty hash', `10  ima-ng ${D} /a\n`],
  ['an unknown template', `10 ${H} ima-nonsense ${D} /a\n`],
  ['a template of every object', `10 ${H} __proto__ ${D} /a\n`],
  ['a format without end', `10 ${H} ${'d-ng|'.repeat(5_000)}n-ng ${D} /a\n`],
  ['an unknown digest algorithm', `10 ${H} ima-ng md6:${'ab'.repeat(32)} /a\n`],
  ['a digest of another size', `10 ${H} ima-ng sha256:abcd /a\n`],
  ['a digest of three parts', `10 ${H} ima-ng ima:sha256:${'ab'.repeat(32)} /a\n`],
  ['a signature that is no hexadecimal', `10 ${H} ima-sig ${D} /a xyz\n`],
  ['a signature of half a megabyte', `10 ${H} ima-sig ${D} /a ${'03'.repeat(500_000)}\n`],
  ['a signature by Streebog', `10 ${H} ima-sig ${D} /a 03021200000001000100\n`],
  ['template ima with a name that is too long', `10 ${H} ima ${'ab'.repeat(20)} /${'a'.repeat(300)}\n`],
  [
    'a buffer that starts like a key',
    `10 ${H} ima-buf sha256:${digest('sha256', Buffer.from('30820122', 'hex')).toString('hex')} .ima 30820122\n`,
  ],
  ['metadata without end', `10 ${H} evm-sig ${D} /a 05 security.ima ffffffff 00 1 1 1\n`],
  ['an appended signature of half a megabyte', `10 ${H} ima-modsig ${D} /a  ${D} ${'30'.repeat(500_000)}\n`],
  ['an appended signature nested without end', `10 ${H} ima-modsig ${D} /a  ${D} ${nested(200).toString('hex')}\n`],
  ['an appended signature that says it is longer', `10 ${H} ima-modsig ${D} /a  ${D} 3084ffffffff\n`],
  ['an appended signature that is no hexadecimal', `10 ${H} ima-modsig ${D} /a  ${D} xyz\n`],
  ['a digest for what is appended that is none', `10 ${H} ima-modsig ${D} /a  sha256:zz 30\n`],
  ['a key of DSA', `10 ${H} ima-buf ${bufferDigest(DSA_KEY)} .ima ${DSA_KEY.toString('hex')}\n`],
  ['a key on Curve25519', `10 ${H} ima-buf ${bufferDigest(X25519_KEY)} .ima ${X25519_KEY.toString('hex')}\n`],
  ['a key that is no point', `10 ${H} ima-buf ${bufferDigest(NO_POINT)} .ima ${NO_POINT.toString('hex')}\n`],
  ['a buffer of half a megabyte', `10 ${H} ima-buf ${D} name ${'00'.repeat(500_000)}\n`],
  [
    'a signature of metadata of half a megabyte',
    `10 ${H} evm-sig ${D} /a ${'05'.repeat(500_000)} security.ima 01000000 00 1 1 1\n`,
  ],
  ['a format that no kernel has', `10 ${H} d-ng|n-ng|buf ${D} /a 00\n`],
  ['user ids beyond all', `10 ${H} evm-sig ${D} /a 05 security.ima 01000000 00 99999999999 1 1\n`],
  ['nothing but a line of another kind', 'X'.repeat(100_000)],
];

for (const [n, [what, line]] of lines.entries()) {
  // In the first list that is judged, and in a part of one: the index is the same.
  const isPart = n % 2 === 1;
  test(`[MUST] a line with ${what} is a failure of the list${isPart ? ', which was judged up to it' : ''}`, async () => {
    const agent = await verifier.agent(`input-${n}`);
    if (isPart) {
      await verifier.enrol(agent);
      await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
    }
    agent.lie({});
    agent.machine.append(withRightHash(line), Buffer.alloc(32, n));
    if (!isPart) await verifier.enrol(agent);
    const status = await verifier.until(agent.id, ({ operational_state }) => operational_state > GET_QUOTE);
    assert.equal(status.operational_state, INVALID_QUOTE);
    assert.match(status.last_event_id ?? '', /^ima\./, JSON.stringify(status.last_failures));
    const entry = status.last_failures.find(({ event_id }) => event_id !== 'ima.pcr_mismatch');
    assert.equal((entry?.context as { index?: number } | undefined)?.index, 1, JSON.stringify(status.last_failures));
    assert.ok(JSON.stringify(status).length < 20_000, 'what is told of it is bounded');
  });
}

test('keys of unknown kinds are refused as such, not by the hash of their line', async () => {
  const events = await Promise.all(
    lines.map(async ([what], n) =>
      what.startsWith('a key ') ? (await verifier.status(`input-${n}`)).last_event_id : [],
    ),
  );
  assert.deepEqual(events.flat(), ['ima.invalid_key', 'ima.invalid_key', 'ima.invalid_key']);
});

test('none of this was a fault of the service', () => {
  assert.doesNotMatch(verifier.log(), /fault of this service|"level":50|internal\.verifier/);
});
