import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import fc from 'fast-check';
import { type ImaEntry, isSignatureShaped, parseImaLine } from './entry.ts';

const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
const SHA1 = 'f572d396fae9206628714fb2ce00f72e94f2258f';
const NAME = '/opt/demo/hello';
const NAME_FIELD = '100000002f6f70742f64656d6f2f68656c6c6f00';
const KERNEL_VERSION = Buffer.from('kernel_version=6.9;').toString('hex');
const BUFFER_DIGEST = '88115f63f71eb6dedc4baa6c721328aed8c725b85a5e3ab3ba4b80082b7b8724';

/** One file measured in each template (`hello\n` at /opt/demo/hello), with what the kernel hashes. */
const vectors = {
  'E1 ima-ng': {
    line: `10 ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086 ima-ng sha256:${D} ${NAME}`,
    input: `280000007368613235363a00${D}${NAME_FIELD}`,
    sha1: 'ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086',
    sha256: '82844ce0522ab8c9721d25e9563cef7dd6979711a634bd112c502b8a8887cd09',
  },
  'E2 ima-sig without signature': {
    line: `10 0f731ebbe184f4f1d40af8be23eeda4cd96dbc9d ima-sig sha256:${D} ${NAME} `,
    input: `280000007368613235363a00${D}${NAME_FIELD}00000000`,
    sha1: '0f731ebbe184f4f1d40af8be23eeda4cd96dbc9d',
    sha256: 'd40f1063fcdd7f8056a35230c6d74435fe3fe4fcbdb0b8b4fcb56bcf9d6d7793',
  },
  'E4 ima-buf': {
    line: `10 96ad404b4a70aa6232bd4609825e74cf8f0f76f4 ima-buf sha256:${BUFFER_DIGEST} kernel_info ${KERNEL_VERSION}`,
    input: `280000007368613235363a00${BUFFER_DIGEST}0c0000006b65726e656c5f696e666f0013000000${KERNEL_VERSION}`,
    sha1: '96ad404b4a70aa6232bd4609825e74cf8f0f76f4',
    sha256: '176891cefd1e0ccafdf28c02f90b3534912904bf48a8d56e8da17b6a604c1d20',
  },
  'E5 ima': {
    line: `10 a3f18a7a16b7923e41ed5dc969a50d19b3668c18 ima ${SHA1} ${NAME}`,
    input: `${SHA1}${Buffer.from(NAME).toString('hex').padEnd(512, '0')}`,
    sha1: 'a3f18a7a16b7923e41ed5dc969a50d19b3668c18',
    sha256: '5917bc46090553e6fed5205e1f93f6b35f2d6712fbc9b33c719ce7a89e2f7e24',
  },
  'E6 ima-ngv2': {
    line: `10 93514d95d27d65d92fdc35981daaa1c1967dacda ima-ngv2 ima:sha256:${D} ${NAME}`,
    input: `2c000000696d613a7368613235363a00${D}${NAME_FIELD}`,
    sha1: '93514d95d27d65d92fdc35981daaa1c1967dacda',
    sha256: '62fd2870f2c00e67ebf07c6a341ee6b4d2617d2a3516dcc0e2dbd8f454ee3aa8',
  },
} as const;

function parsed(line: string): ImaEntry {
  const result = parseImaLine(line);
  assert.ok(result.ok, JSON.stringify(result));
  return result.value;
}

for (const [name, { line, input, sha1, sha256 }] of Object.entries(vectors)) {
  test(`${name}: the template input and its hashes are the kernel's`, () => {
    const entry = parsed(line);
    assert.equal(Buffer.from(entry.templateInput).toString('hex'), input);
    assert.equal(digest('sha1', entry.templateInput).toString('hex'), sha1);
    assert.equal(digest('sha256', entry.templateInput).toString('hex'), sha256);
    assert.equal(entry.templateHash, sha1);
    assert.equal(entry.violation, false);
  });
}

test('a line says what was measured', () => {
  const { pcr, template, fileDigest, path, signature, buffer } = parsed(vectors['E2 ima-sig without signature'].line);
  assert.deepEqual(
    { pcr, template, fileDigest, path },
    {
      pcr: 10,
      template: 'ima-sig',
      fileDigest: { algorithm: 'sha256', hex: D, verity: false },
      path: NAME,
    },
  );
  assert.equal(signature, undefined);
  assert.equal(buffer, undefined);
  assert.equal(Buffer.from(parsed(vectors['E4 ima-buf'].line).buffer ?? []).toString(), 'kernel_version=6.9;');
});

test('a signed file carries its signature, hashed as it is', () => {
  const signature =
    '03020493a5d39b0046304402202f847033331f5f1724585d3c2ba4a966233129c560248c4c93254a62887dfa1602205624463f1252daf98f9f355db38651a42f498e35f64aea37af46ec156510bd77';
  const entry = parsed(`10 925176fc6f0afea6509b1f12968885823b566d56 ima-sig sha256:${D} ${NAME} ${signature}`);
  assert.equal(Buffer.from(entry.signature ?? []).toString('hex'), signature);
  assert.equal(digest('sha1', entry.templateInput).toString('hex'), entry.templateHash);
  assert.equal(
    digest('sha256', entry.templateInput).toString('hex'),
    '526e4629591ba6588514fbaa01935660196154958d3b037f6c3d5bd31f7ca7d8',
  );
  assert.equal(isSignatureShaped(entry.signature ?? new Uint8Array()), true);
  assert.equal(isSignatureShaped((entry.signature ?? new Uint8Array()).subarray(1)), false);
});

test('only a column of zeros is a violation, one of ones is an ordinary wrong hash', () => {
  const line = (column: string) => `10 ${column} ima-ng sha1:${'0'.repeat(40)} ${NAME}`;
  assert.equal(parsed(line('0'.repeat(40))).violation, true);
  assert.equal(parsed(line('f'.repeat(40))).violation, false);
  // Older kernels print 20 zero bytes for the digest of a violation in any algorithm.
  assert.equal(parsed(`10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(40)} ${NAME}`).violation, true);
});

test('a PCR of one digit is padded with a space', () => {
  assert.equal(parsed(` 9 ${'1'.repeat(40)} ima-ng sha256:${D} ${NAME}`).pcr, 9);
});

test('a name may hold any byte but newline and NUL, and is shown as text', () => {
  const bytes = Buffer.concat([
    Buffer.from(`10 ${'1'.repeat(40)} ima-ng sha256:${D} /tmp/a b`),
    Buffer.from([0xc3, 0xa9, 0xff, 0x0d, 0xe2, 0x80, 0xa8]),
  ]);
  const result = parseImaLine(bytes);
  assert.ok(result.ok);
  assert.equal(result.value.path, '/tmp/a bé\udcff\r\u2028');
  assert.deepEqual(
    Buffer.from(result.value.templateInput).subarray(48).toString('latin1'),
    '/tmp/a b\xc3\xa9\xff\r\xe2\x80\xa8\0',
  );
});

const HASH = '1'.repeat(40);
for (const [line, problem] of [
  ['', 'field_count'],
  [`10 ${HASH} ima-buf sha256:${D} ${NAME} ${'0'.repeat(1 << 20)}`, 'line_length'],
  ['10', 'field_count'],
  [`10 ${HASH} ima-ng`, 'field_count'],
  [`10 ${HASH} ima-ng sha256:${D}`, 'field_count'],
  [`10 ${HASH} ima-sig sha256:${D} ${NAME}`, 'field_count'],
  [`24 ${HASH} ima-ng sha256:${D} ${NAME}`, 'pcr'],
  [`x ${HASH} ima-ng sha256:${D} ${NAME}`, 'pcr'],
  [`10 ${HASH}1 ima-ng sha256:${D} ${NAME}`, 'template_hash'],
  [`10 xyz ima-ng sha256:${D} ${NAME}`, 'template_hash'],
  [`10 ${HASH} ima-xx sha256:${D} ${NAME}`, 'template'],
  [`10 ${HASH} constructor sha256:${D} ${NAME}`, 'template'],
  [`10 ${HASH} ima-ng sha256:${D}00 ${NAME}`, 'd-ng'],
  [`10 ${HASH} ima-ng sha7:${D} ${NAME}`, 'd-ng'],
  [`10 ${HASH} ima-ng ima:sha256:${D} ${NAME}`, 'd-ng'],
  [`10 ${HASH} ima-ng ${D} ${NAME}`, 'd-ng'],
  [`10 ${HASH} ima-ng sha256:${'0'.repeat(40)} ${NAME}`, 'd-ng'],
  [`10 ${HASH} ima-ngv2 sha256:${D} ${NAME}`, 'd-ngv2'],
  [`10 ${HASH} ima-ng sha256:${D} ${NAME}\0`, 'n-ng'],
  [`10 ${HASH} ima ${SHA1} ${'n'.repeat(256)}`, 'n'],
  [`10 ${HASH} ima-sig sha256:${D} ${NAME} 0`, 'sig'],
  [`10 ${HASH} ima-sig sha256:${D} ${NAME} 00 00`, 'sig'],
  [`10 ${HASH} ima-buf sha256:${D} ${NAME} zz`, 'buf'],
  [`10 ${HASH} evm-sig sha256:${D} ${NAME}  security.ima 04000000 00000000 0 4294967296 33188`, 'igid'],
] as const) {
  test(`a line is refused for its ${problem}: ${line.slice(0, 90)}`, () => {
    assert.deepEqual(parseImaLine(line), { ok: false, problem });
  });
}

test('an evm-sig line is hashed field by field with little-endian integers', () => {
  const entry = parsed(
    `10 ${HASH} evm-sig sha256:${D} ${NAME} 0304 security.ima|security.evm 0400000000000000 01020304 1000 0 33188`,
  );
  assert.equal(
    Buffer.from(entry.templateInput).toString('hex'),
    `280000007368613235363a00${D}${NAME_FIELD}020000000304${'1a000000'}${Buffer.from('security.ima|security.evm\0').toString('hex')}` +
      '080000000400000000000000' +
      '0400000001020304' +
      '04000000e8030000' +
      '0400000000000000' +
      '02000000a481',
  );
});

test('an appended signature is hashed with its digest; without one both fields are empty', () => {
  const entry = parsed(`10 ${HASH} ima-modsig sha256:${D} ${NAME}   `);
  assert.equal(
    Buffer.from(entry.templateInput).toString('hex'),
    `280000007368613235363a00${D}${NAME_FIELD}000000000000000000000000`,
  );
  assert.equal(parsed(`10 ${HASH} ima-modsig sha256:${D} ${NAME}  sha256:${D} 3003`).fileDigest.hex, D);
});

test('a line of ten thousand fields is read in one pass', () => {
  const result = parseImaLine(`10 ${HASH} ima-ng sha256:${D} ${'x '.repeat(10_000)}`);
  assert.ok(result.ok);
  assert.equal(result.value.path.length, 20_000);
});

test('no bytes at all make the parser throw', () => {
  const noise = fc.uint8Array({ maxLength: 200 });
  const nearly = fc
    .tuple(
      fc.constantFrom('10', ' 9', '99', ''),
      fc.constantFrom(HASH, '0'.repeat(40), 'f'.repeat(64), 'zz'),
      fc.constantFrom('ima', 'ima-ng', 'ima-sig', 'ima-buf', 'ima-modsig', 'evm-sig', 'ima-sigv2'),
      fc.constantFrom(`sha256:${D}`, SHA1, 'sha1:', ':', `verity:sha256:${D}`),
      noise,
    )
    .map(([pcr, hash, template, digest, rest]) =>
      Buffer.concat([Buffer.from(`${pcr} ${hash} ${template} ${digest} `), rest]),
    );
  fc.assert(
    fc.property(fc.oneof(noise, nearly), (line) => {
      const result = parseImaLine(line);
      assert.equal(typeof (result.ok ? result.value.path : result.problem), 'string');
    }),
  );
});

test('a template made of fields is known by its format', () => {
  const custom = parsed(`10 ${'1'.repeat(40)} d-ng|n-ng|sig sha256:${D} ${NAME} `);
  const named = parsed(`10 ${'1'.repeat(40)} ima-sig sha256:${D} ${NAME} `);
  assert.deepEqual(custom, { ...named, template: 'd-ng|n-ng|sig' });
  // Only template `ima` pads names.
  const short = parsed(`10 ${'1'.repeat(40)} d|n ${SHA1} ${NAME}`);
  assert.equal(Buffer.from(short.templateInput).toString('hex'), `14000000${SHA1}${NAME_FIELD}`);
});

for (const format of [
  'd-ng|n-ng|x',
  'd-ng|d-ng|n-ng',
  'd-ng|sig',
  'n-ng|sig',
  'd-ng|d|n-ng',
  '|',
  `${'d-ng|'.repeat(60)}n-ng`,
]) {
  test(`a format that says no digest and name is refused: ${format.slice(0, 40)}`, () => {
    const line = `10 ${'1'.repeat(40)} ${format} a b c d`;
    assert.deepEqual(parseImaLine(line), { ok: false, problem: 'template_format' });
  });
}

/** Records of the kernel's own templates whose bytes these formats would read as another digest, path or kind of record. */
for (const [template, format] of [
  ['ima-buf', 'd-ng|n-ng|xattrvalues'],
  ['ima-buf', 'd-ng|n-ng|modsig'],
  ['ima-buf', 'd-ng|n-ng|buf'],
  ['ima-ng', 'n-ng|d-ng'],
  ['ima-sig', 'd-modsig|n-ng|d'],
  ['ima-modsig', 'd-modsig|n-ng|sig|d-ng|modsig'],
  ['evm-sig', 'd-modsig|n-ng|evmsig|xattrnames|xattrlengths|d-ng|iuid|igid|imode'],
  ['evm-sig', 'd-ng|xattrnames|evmsig|n-ng|xattrlengths|xattrvalues|iuid|igid|imode'],
  ['evm-sig', 'd-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|igid|iuid|imode'],
] as const) {
  test(`a record of ${template} is not read by another format: ${format}`, () => {
    const line = `10 ${'1'.repeat(40)} ${format} sha256:${D} ${NAME}${' 00'.repeat(7)}`;
    assert.deepEqual(parseImaLine(line), { ok: false, problem: 'template_format' });
  });
}

test('a field that begins as no signature of the kernel has not the shape of one', () => {
  const signature = Buffer.from('0302049999999900010a', 'hex');
  assert.equal(isSignatureShaped(signature), true);
  for (const type of [0x00, 0x01, 0x02, 0x04, 0x07, 0x30, 0x64]) {
    signature[0] = type;
    assert.equal(isSignatureShaped(signature), false, String(type));
  }
});

test('metadata of template evm-sig is read with its attributes, or not at all', () => {
  const line = (lengths: string, values: string, rest = '1000 100 33261', signature = '0502') =>
    `10 ${'1'.repeat(40)} evm-sig sha256:${D} ${NAME} ${signature} security.ima|security.selinux ${lengths} ${values} ${rest}`;
  assert.deepEqual(parsed(line('0200000001000000', '010203')).metadata, {
    signature: Buffer.from('0502', 'hex'),
    xattrNames: ['security.ima', 'security.selinux'],
    xattrValues: [Buffer.from('0102', 'hex'), Buffer.from('03', 'hex')],
    uid: 1000,
    gid: 100,
    mode: 33261,
  });
  for (const [lengths, values] of [
    ['0200000002000000', '010203'],
    ['0200000000000000', '010203'],
    ['02000000', '010203'],
    ['ffffffffffffffff', '010203'],
    ['', ''],
  ] as const) {
    assert.equal(parsed(line(lengths, values)).metadata, undefined, lengths);
  }
  assert.equal(parsed(line('0200000001000000', '010203', '1000 100 33261', '')).metadata, undefined);
  assert.equal(parsed(line('0200000001000000', '010203', '  ')).metadata, undefined);
});

test('the digest of a file without its appended signature is told apart from that of all of it', () => {
  const entry = parsed(`10 ${'1'.repeat(40)} ima-modsig sha256:${D} ${NAME}  sha256:${'0'.repeat(64)} 3082`);
  assert.deepEqual([entry.fileDigest.hex, entry.appendedDigest?.hex], [D, '0'.repeat(64)]);
  assert.equal(parsed(`10 ${'1'.repeat(40)} ima-modsig sha256:${D} ${NAME}   `).appendedDigest, undefined);
});
