import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HashAlgorithm } from '@keylime/core/digest';
import fc from 'fast-check';
import { ToolError } from '../tool-error.ts';
import { writePeImage } from './pe-image.fixture.ts';
import { authenticodeDigest, parsePeImage, sectionContent } from './pe-image.ts';

const SECTIONS = [
  { name: '.text', content: Buffer.alloc(1000, 'code') },
  { name: '.data', content: Buffer.from('data'), memorySize: 9000 },
];
const IMAGE = writePeImage(SECTIONS);

const digestOf = (bytes: Buffer, algorithm: HashAlgorithm = 'sha256'): string =>
  authenticodeDigest(parsePeImage(bytes, 'test'), algorithm).toString('hex');

// By osslsigncode 2.5: sign -h HASH -in IMAGE -out SIGNED, then verify SIGNED, "Calculated message digest".
const BY_OSSLSIGNCODE: ReadonlyMap<HashAlgorithm, string> = new Map([
  ['sha1', '641366ca3577e290949e5beafc0382a8bc5adc01'],
  ['sha256', '790173eb2feefcef588b4ce6f0e8de05c019f4b0072b1c4eb1a1c5d4a3d9ed39'],
  ['sha384', 'e6b4b4e2a9e918c33ef70bc960944bc8d62908247db3e0a3c38edfad78688191e2c2e46d4583d2556176f8d4bfb838a4'],
  [
    'sha512',
    '3ba0c1d892a65b94f66386940d8100ddedc143781bc2275bb5f5b3f86b002271495ce1b9d55fbe8bf962796ac0fa09d7472fa00b608b55375a8e7cb2a0733d6f',
  ],
]);

for (const [algorithm, expected] of BY_OSSLSIGNCODE) {
  test(`the ${algorithm} of an image is the one that osslsigncode signs`, () => {
    assert.equal(digestOf(IMAGE, algorithm), expected);
  });
}

test('a signature does not change the digest of an image', () => {
  assert.equal(digestOf(writePeImage(SECTIONS, Buffer.alloc(1432, 7))), digestOf(IMAGE));
});

test('a byte of a section, of the headers or behind the sections does', () => {
  for (const at of [0x10, 0x250, IMAGE.length - 1]) {
    const other = Buffer.from(IMAGE);
    other.writeUInt8((other[at] ?? 0) ^ 1, at);
    assert.notEqual(digestOf(other), digestOf(IMAGE));
  }
  assert.notEqual(digestOf(Buffer.concat([IMAGE, Buffer.of(0)])), digestOf(IMAGE));
});

test('a section is as long as in memory, cut or filled up with zeros', () => {
  const image = parsePeImage(IMAGE, 'test');
  const [text, data] = image.sections.map((section) => sectionContent(image, section));
  assert.deepEqual(text, Buffer.alloc(1000, 'code'));
  assert.deepEqual(data, Buffer.concat([Buffer.from('data')], 9000));
});

test('what is no image is refused, and so are sections that overlap', () => {
  const overlapping = Buffer.from(IMAGE);
  const secondSection = 0x40 + 24 + 240 + 40;
  overlapping.writeUInt32LE(IMAGE.length - 0x200, secondSection + 16);
  overlapping.writeUInt32LE(0x200, secondSection + 20);
  for (const bytes of [Buffer.alloc(0), Buffer.from('MZ'), Buffer.alloc(500), IMAGE.subarray(0, -1), overlapping]) {
    assert.throws(() => digestOf(bytes), { code: 'image_invalid' });
  }
});

test('no mutated image makes the reader fail in another way', () => {
  const mutation = fc.tuple(fc.nat(IMAGE.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 12 }), (all) => {
      const bytes = Buffer.from(IMAGE);
      for (const [at, value] of all) bytes[at] = value;
      try {
        const image = parsePeImage(bytes, 'test');
        assert.equal(authenticodeDigest(image, 'sha1').length, 20);
      } catch (error) {
        assert.ok(error instanceof ToolError && error.code === 'image_invalid', String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
