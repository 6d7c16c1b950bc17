import assert from 'node:assert/strict';
import { type Codec, DecodeError, decode, encode } from '@keylime/core/codec';
import fc from 'fast-check';

/** Whether `bytes` decode; fails the test if the decoder throws anything but a DecodeError. */
export function decodes<T>(codec: Codec<T>, bytes: Uint8Array): boolean {
  try {
    decode(codec, bytes);
    return true;
  } catch (error) {
    assert(error instanceof DecodeError, `${String(error)} instead of a DecodeError`);
    return false;
  }
}

/** Round trip, every length that is too short, a byte too many, and bytes changed or made up. */
export function checkCodec<T>(codec: Codec<T>, whole: Buffer): void {
  assert.deepEqual(encode(codec, decode(codec, whole)), whole);
  for (let n = 0; n < whole.length; n++) assert.equal(decodes(codec, whole.subarray(0, n)), false, `cut to ${n} bytes`);
  assert.equal(decodes(codec, Buffer.concat([whole, Buffer.of(0)])), false, 'a byte too many');
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void decodes(codec, bytes)));
  const change = fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
      const changed = Buffer.from(whole);
      for (const [at, byte] of changes) changed[at] = byte;
      decodes(codec, changed);
    }),
  );
}
