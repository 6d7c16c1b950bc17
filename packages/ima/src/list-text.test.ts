import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeUtf8, encodeUtf8, showName } from './list-text.ts';

test('any bytes come back from their text', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc
      .array(fc.constantFrom(0x41, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xed, 0xa0, 0x80, 0xf0, 0x9f, 0x98, 0x80, 0xff), {
        maxLength: 40,
      })
      .map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(bytes, (given) => {
      assert.deepEqual(new Uint8Array(encodeUtf8(decodeUtf8(given))), new Uint8Array(given));
    }),
  );
});

test('UTF-8 is read as UTF-8, and a byte that is not as a lone surrogate, as Python does', () => {
  assert.equal(decodeUtf8(Buffer.from('\ufeffé€😀')), '\ufeffé€😀');
  assert.equal(
    decodeUtf8(Buffer.from([0x61, 0xff, 0xe2, 0x82, 0x62, 0xed, 0xa0, 0x80])),
    'a\udcff\udce2\udc82b\udced\udca0\udc80',
  );
});

test('a surrogate that stands for no byte is encoded as the replacement character', () => {
  assert.deepEqual(encodeUtf8('a\ud800b\udc41'), Buffer.from('a\ufffdb\ufffd'));
});

test('a shown name cannot steer a terminal or break a line', () => {
  assert.equal(showName('/tmp/é\u001b[2J\n\u202e\udcff\u2028\\'), '/tmp/é\\x1b[2J\\x0a\\u{202e}\\xff\\u{2028}\\\\');
});
