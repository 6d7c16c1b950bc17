import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGreeting, readFrame } from './zmtp.ts';

const MAX = 1000;

test('a frame is read whole or not at all, and says how long it is', () => {
  const frame = fc.record({
    body: fc.uint8Array({ maxLength: 600 }),
    flags: fc.constantFrom(0, 1, 4),
    isLong: fc.boolean(),
  });
  fc.assert(
    fc.property(frame, ({ body, flags, isLong }) => {
      const header = isLong || body.length > 255 ? Buffer.alloc(9) : Buffer.alloc(2);
      header.writeUInt8(header.length === 9 ? flags | 2 : flags, 0);
      if (header.length === 9) header.writeBigUInt64BE(BigInt(body.length), 1);
      else header.writeUInt8(body.length, 1);
      const bytes = Buffer.concat([header, body]);
      for (let n = 0; n < bytes.length; n++) assert.equal(readFrame(bytes.subarray(0, n), MAX), undefined);
      assert.deepEqual(readFrame(Buffer.concat([bytes, Buffer.from('more')]), MAX), {
        frame: { isCommand: flags === 4, hasMore: flags === 1, body: Buffer.from(body) },
        size: bytes.length,
      });
    }),
    { numRuns: 30 },
  );
});

test('no bytes give a frame beyond the limit', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        const read = readFrame(Buffer.from(bytes), MAX);
        assert.ok(read === undefined || read.size <= bytes.length);
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
      assert.equal(isGreeting(Buffer.from(bytes)), false);
    }),
  );
});
