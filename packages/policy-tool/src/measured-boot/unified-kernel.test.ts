import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { type SectionToWrite, stubMagic, writePeImage } from './pe-image.fixture.ts';
import { parsePeImage } from './pe-image.ts';
import { phasePcrs, readUnifiedKernel, sectionsPcr, type UnifiedKernel } from './unified-kernel.ts';
import { vectorFile } from './vectors.fixture.ts';

const section = (name: string, content = `content of ${name}`): SectionToWrite => ({
  name,
  content: Buffer.from(content),
});

const read = (sections: readonly SectionToWrite[], profile?: number): UnifiedKernel =>
  readUnifiedKernel(parsePeImage(writePeImage(sections), 'test'), 'test', profile);

const measuredNames = (sections: readonly SectionToWrite[]): readonly string[] =>
  read(sections).measured.map(({ name }) => name);

test('PCR 11 is what systemd-measure works out, in all banks and phases', () => {
  // In another order than the one in which they are measured, as ukify writes them.
  const names = ['osrel', 'cmdline', 'dtb', 'splash', 'pcrpkey', 'initrd', 'linux'];
  const sections = names.map((name) => ({
    name: `.${name}`,
    content: readFileSync(vectorFile('systemd-measure', name)),
  }));
  const unified = read([stubMagic('252.39-1~deb12u2'), section('.sbat'), ...sections, section('.pcrsig')]);
  const expected = JSON.parse(readFileSync(vectorFile('systemd-measure', 'calculate.json'), 'utf8')) as {
    readonly [bank: string]: readonly { readonly phase: string; readonly pcr: number; readonly hash: string }[];
  };
  assert.deepEqual(Object.keys(expected), ['sha1', 'sha256', 'sha384', 'sha512']);
  for (const [bank, phases] of Object.entries(expected) as [HashAlgorithm, (typeof expected)[string]][]) {
    const values = phasePcrs(sectionsPcr(unified, bank), bank);
    assert.deepEqual(
      Array.from(values, ([phase, value]) => ({ phase, pcr: 11, hash: value.toString('hex') })),
      phases,
    );
  }
});

test('a stub measures the sections that its release knows', () => {
  const sections = ['.uname', '.sbat', '.hwids', '.pcrsig', '.ucode', '.linux'].map((name) => section(name));
  assert.deepEqual(measuredNames([stubMagic('252'), ...sections]), ['.linux']);
  assert.deepEqual(measuredNames([stubMagic('254.1'), ...sections]), ['.linux', '.uname', '.sbat']);
  assert.deepEqual(measuredNames([stubMagic('256~rc1'), ...sections]), ['.linux', '.ucode', '.uname', '.sbat']);
  assert.deepEqual(measuredNames(sections), ['.linux', '.ucode', '.uname', '.sbat', '.hwids']);
});

test('the sections of a profile stand over those before the first profile', () => {
  const sections = [
    stubMagic('257'),
    section('.linux'),
    section('.cmdline', 'quiet'),
    section('.cmdline', 'never'),
    section('.profile', 'ID=main'),
    section('.profile', 'ID=debug'),
    section('.cmdline', 'debug'),
  ];
  const texts = (profile?: number) => read(sections, profile).measured.map(({ content }) => content.toString());
  assert.deepEqual(texts(), ['content of .linux', 'quiet', 'ID=main']);
  assert.deepEqual(texts(1), ['content of .linux', 'debug', 'ID=debug']);
  assert.throws(() => read(sections, 2), { code: 'usage' });
  assert.throws(() => read(sections.slice(0, 3), 1), { code: 'usage' });
});

test('an image without a kernel is refused, and one whose sections the machine chooses', () => {
  assert.throws(() => read([section('.osrel')]), { code: 'image_invalid' });
  assert.throws(() => read([stubMagic('257'), section('.linux'), section('.dtbauto')]), { code: 'image_invalid' });
  assert.deepEqual(measuredNames([stubMagic('256'), section('.linux'), section('.dtbauto')]), ['.linux']);
});

test('of each section first the name is measured, with a NUL, then the content', () => {
  let value: Buffer = Buffer.alloc(digestSize('sha256'));
  for (const text of ['.linux\0', 'content of .linux']) {
    value = extend('sha256', value, digest('sha256', Buffer.from(text)));
  }
  assert.deepEqual(sectionsPcr(read([section('.linux')]), 'sha256'), value);
});
