import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DecodeError } from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import fc from 'fast-check';
import { decodeBinaryList, detectBinaryList } from './binary-list.ts';
import { parseImaLine } from './entry.ts';

const vector = (name: string) =>
  readFileSync(new URL(`../../testing/vectors/debian12-uefi-vm/${name}`, import.meta.url));
const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
const NAME = '2f6f70742f64656d6f2f68656c6c6f';

/** 03 section 1.8 and 1.9 of the reference. */
const E1 = Buffer.from(
  `0a000000ed93d318c7e44ae2d4b98c71c44e7c5caf4bd08606000000696d612d6e6740000000280000007368613235363a00${D}10000000${NAME}00`,
  'hex',
);
const E5 = Buffer.from(
  `0a000000a3f18a7a16b7923e41ed5dc969a50d19b3668c1803000000696d61f572d396fae9206628714fb2ce00f72e94f2258f0f000000${NAME}`,
  'hex',
);
const lines = (...args: Parameters<typeof decodeBinaryList>) =>
  [...decodeBinaryList(...args)].map((line) => line.toString('latin1'));

test('the binary list of a real machine says what its ASCII list says', () => {
  const ascii = vector('ima.txt').toString('latin1').split('\n').slice(0, -1);
  const decoded = lines(vector('ima.bin'));
  assert.ok(decoded.length > 300);
  assert.deepEqual(decoded, ascii.slice(0, decoded.length));
  assert.ok(ascii.length - decoded.length < 3, 'both were read at nearly the same time');
});

test('the examples of the reference decode, template ima without a length among them', () => {
  assert.deepEqual(lines(Buffer.concat([E1, E5])), [
    `10 ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086 ima-ng sha256:${D} /opt/demo/hello`,
    '10 a3f18a7a16b7923e41ed5dc969a50d19b3668c18 ima f572d396fae9206628714fb2ce00f72e94f2258f /opt/demo/hello',
  ]);
});

test('decoded lines hash to their columns', () => {
  for (const line of decodeBinaryList(Buffer.concat([E1, E5]))) {
    const parsed = parseImaLine(line);
    assert.ok(parsed.ok);
    assert.equal(digest('sha1', parsed.value.templateInput).toString('hex'), parsed.value.templateHash);
  }
});

test('a file of another algorithm, and one of a big-endian machine, are read when told so', () => {
  const wide = Buffer.concat([E1.subarray(0, 4), digest('sha256', E1.subarray(-64)), E1.subarray(24)]);
  assert.deepEqual(lines(wide, { logHashAlgorithm: 'sha256' }), [
    `10 82844ce0522ab8c9721d25e9563cef7dd6979711a634bd112c502b8a8887cd09 ima-ng sha256:${D} /opt/demo/hello`,
  ]);
  const swapped = Buffer.from(E1);
  for (const at of [0, 24, 34, 38, 82]) swapped.subarray(at, at + 4).reverse();
  assert.deepEqual(lines(swapped, { bigEndian: true }), lines(E1));
});

test('a list cut anywhere is refused with the entry and the offset', () => {
  for (let size = 1; size < E1.length; size++) {
    assert.throws(
      () => lines(Buffer.concat([E5, E1.subarray(0, size)])),
      (error) => {
        assert.ok(error instanceof DecodeError);
        assert.match(error.message, /entry\[1\]/);
        return true;
      },
    );
  }
});

test('lengths that no kernel writes are refused before they are used', () => {
  for (const at of [24, 34, 38, 82]) {
    const wrong = Buffer.from(E1);
    wrong.writeUInt32LE(0xffffffff, at);
    assert.throws(() => lines(wrong), DecodeError);
  }
  const unknown = Buffer.from(E1);
  unknown.write('imx-ng', 28, 'latin1');
  assert.throws(() => lines(unknown), /template .*imx-ng.* is unknown/);
});

/** The record of an ASCII line of any template but `ima`. */
function recordOf(line: string): Buffer {
  const parsed = parseImaLine(line);
  assert.ok(parsed.ok, line);
  const { pcr, template, templateHash, templateInput } = parsed.value;
  return record(templateInput, { template, pcr, hash: Buffer.from(templateHash, 'hex') });
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const sized = (data: Uint8Array): Buffer => Buffer.concat([u32(data.length), data]);

function record(fields: Uint8Array, { template = 'ima-ng', pcr = 10, hash = Buffer.alloc(20, 0x11) } = {}): Buffer {
  return Buffer.concat([u32(pcr), hash, sized(Buffer.from(template)), sized(fields)]);
}

test('records of all templates, with all fields and with none that may be empty, are the lines that they were made of', () => {
  const head = `10 ${'11'.repeat(20)}`;
  const name = '/opt/demo/hello';
  for (const line of [
    `${head} ima-sig sha256:${D} ${name} 030204`,
    `${head} ima-ngv2 verity:sha256:${D} ${name}`,
    `${head} ima-sigv2 ima:sha256:${D} ${name} `,
    ` 8 ${'11'.repeat(20)} ima-buf sha256:${D} kernel_info 6b`,
    `${head} ima-modsig sha256:${D} ${name} 030204 sha512:${D}${D} 3082`,
    `${head} ima-modsig sha256:${D} ${name}   `,
    `${head} evm-sig sha256:${D} ${name} 0502 security.ima|security.evm 0400000000000000 01020304 1000 4294967295 33188`,
    `${head} evm-sig sha256:${D} boot_aggregate       `,
    `${head} d-ng|n-ng|sig sha256:${D} ${name} 030204`,
  ]) {
    assert.deepEqual(lines(recordOf(line)), [line]);
  }
});

const DIGEST_FIELD = Buffer.concat([Buffer.from('sha256:\0'), Buffer.from(D, 'hex')]);
const NAME_FIELD = Buffer.from('/a\0');
const fields = (...all: readonly Uint8Array[]): Buffer => Buffer.concat(all.map(sized));
const evm = (uid: number, mode: number) =>
  fields(
    DIGEST_FIELD,
    NAME_FIELD,
    ...Array.from({ length: 4 }, () => Buffer.of()),
    Buffer.alloc(uid),
    u32(0),
    Buffer.alloc(mode),
  );

test('a field that no kernel writes is refused, with what is wrong with it', () => {
  const good = fields(DIGEST_FIELD, NAME_FIELD);
  assert.equal(lines(record(good)).length, 1);
  assert.equal(lines(record(evm(4, 2), { template: 'evm-sig' })).length, 1);
  const cases: readonly (readonly [list: Buffer, problem: RegExp])[] = [
    [record(Buffer.concat([good, Buffer.of(0)])), /template data ends at 90, its fields at 89/],
    [record(fields(Buffer.from(D, 'hex'), NAME_FIELD)), /d-ng names no algorithm/],
    [record(fields(Buffer.concat([Buffer.of(0), DIGEST_FIELD]), NAME_FIELD)), /d-ng names no algorithm/],
    [record(fields(DIGEST_FIELD, Buffer.from('/a'))), /n-ng does not end with its only NUL/],
    [record(fields(DIGEST_FIELD, Buffer.from('/a\0/b\0'))), /n-ng does not end with its only NUL/],
    [record(evm(3, 2), { template: 'evm-sig' }), /iuid has 3 bytes/],
    [record(evm(4, 4), { template: 'evm-sig' }), /imode has 4 bytes/],
    // All the bytes are there: nothing but the bound refuses them.
    [record(fields(DIGEST_FIELD, Buffer.alloc(2 ** 20 + 1, 'a'))), /is more than 1048576/],
    [record(good, { template: 'a'.repeat(256) }), /length 256 is more than 255/],
  ];
  for (const [list, problem] of cases) {
    assert.throws(
      () => lines(list),
      (error) => {
        assert.ok(error instanceof DecodeError);
        assert.match(error.message, problem);
        return true;
      },
    );
  }
});

test('no bytes make the decoder fail in another way', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(E1.length), (bytes, at) => {
      for (const list of [bytes, Buffer.concat([E1.subarray(0, at), bytes, E1.subarray(at)])]) {
        try {
          lines(list);
        } catch (error) {
          if (!(error instanceof DecodeError)) return false;
        }
      }
      return true;
    }),
  );
});

test('the format of a list is seen from its first record, and what is no binary list has none', () => {
  assert.deepEqual(detectBinaryList(vector('ima.bin')), { logHashAlgorithm: 'sha1', bigEndian: false });
  assert.deepEqual(detectBinaryList(E5), { logHashAlgorithm: 'sha1', bigEndian: false });
  for (const logHashAlgorithm of ['sha1', 'sha256', 'sha384', 'sha512'] as const) {
    const record = Buffer.concat([E1.subarray(0, 4), digest(logHashAlgorithm, E1.subarray(-64)), E1.subarray(24)]);
    assert.deepEqual(detectBinaryList(record), { logHashAlgorithm, bigEndian: false });
    const size = digest(logHashAlgorithm, E1).length;
    for (const at of [0, 4 + size]) record.subarray(at, at + 4).reverse();
    assert.deepEqual(detectBinaryList(record), { logHashAlgorithm, bigEndian: true });
  }
  const ascii = vector('ima.txt');
  for (const list of [ascii, ascii.subarray(0, 40), Buffer.alloc(0), E1.subarray(0, 30), Buffer.alloc(200)]) {
    assert.equal(detectBinaryList(list), undefined);
  }
});
