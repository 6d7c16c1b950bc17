import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeStrictReference } from './strict-reference.ts';

const digest = { sha256: `0x${'ab'.repeat(32)}` };
const signature = { SignatureOwner: '77fa9abd-0359-4d32-bd60-28f4e78f784b', SignatureData: '0x0102' };
const kernel = {
  shim_authcode_sha256: digest.sha256,
  grub_authcode_sha256: digest.sha256,
  kernel_authcode_sha256: digest.sha256,
  initrd_plain_sha256: digest.sha256,
  kernel_cmdline: 'root\\=/dev/vda1\\ quiet',
};
/** A reference state as older tools write it. */
const OLD = {
  has_secureboot: true,
  scrtm_and_bios: [{ scrtm: digest, platform_firmware: [digest, digest] }],
  ...{ pk: [signature], kek: [signature], db: [signature], dbx: [signature], vendor_db: [] },
  ...{ mokdig: [digest], mokxdig: [digest] },
  kernels: [kernel],
};

const problems = (json: unknown): readonly (readonly [path: string, message: string])[] => {
  const decoded = decodeStrictReference(json);
  return decoded.ok ? [] : decoded.problem.map(({ path, message }) => [path, message]);
};

test('a reference state of older tools is taken, with and without Secure Boot', () => {
  const decoded = decodeStrictReference(OLD);
  assert(decoded.ok);
  assert.deepEqual([decoded.value.secureBoot, decoded.value.kernels[0]?.images.length], [true, 3]);
  assert.deepEqual([...decoded.value.banks], ['sha256']);
  const { kernel_authcode_sha256: _, ...withoutKernel } = kernel;
  const off = { ...OLD, has_secureboot: false, kernels: [{ ...withoutKernel, vmlinuz_plain_sha256: digest.sha256 }] };
  assert.deepEqual(problems(off), []);
});

test('what is absent decides for Secure Boot, DMA protection and a logged end of boot services', () => {
  const { has_secureboot: _, vendor_db: __, ...rest } = OLD;
  const decoded = decodeStrictReference(rest);
  assert(decoded.ok);
  const { secureBoot, dmaProtection, exitBootServices, unlisted, databases, authorities } = decoded.value;
  assert.deepEqual([secureBoot, dmaProtection, exitBootServices], [true, 'required', 'required']);
  assert.deepEqual([unlisted.size, authorities], [0, undefined]);
  assert.deepEqual([databases.db.rule, databases.dbx.rule], ['subset', 'superset']);
});

for (const [what, json, path] of [
  ['a member that there is not', { ...OLD, sbat: 'x' }, 'sbat'],
  ['a member of a kernel that there is not', { ...OLD, kernels: [{ ...kernel, cmdline: '' }] }, 'kernels[0].cmdline'],
  ['no kernel', { ...OLD, kernels: [] }, 'kernels'],
  ['kernels that are no list', { ...OLD, kernels: kernel }, 'kernels'],
  ['no firmware', { ...OLD, scrtm_and_bios: [] }, 'scrtm_and_bios'],
  ['a digest of another size', { ...OLD, mokdig: [{ sha256: '0xab' }] }, 'mokdig[0].sha256'],
  ['a digest in upper case', { ...OLD, mokdig: [{ sha256: digest.sha256.toUpperCase() }] }, 'mokdig[0].sha256'],
  ['a digest of an unknown hash', { ...OLD, mokdig: [{ md5: '0xab' }] }, 'mokdig[0].md5'],
  ['no digest', { ...OLD, mokdig: [{}] }, 'mokdig[0]'],
  ['an owner that is no GUID', { ...OLD, db: [{ ...signature, SignatureOwner: 'me' }] }, 'db[0].SignatureOwner'],
  ['half a byte', { ...OLD, db: [{ ...signature, SignatureData: '0x123' }] }, 'db[0].SignatureData'],
  ['no database', { ...OLD, dbx: undefined }, 'dbx'],
  [
    'a pattern that cannot be used',
    { ...OLD, kernels: [{ ...kernel, kernel_cmdline: '(?=x)' }] },
    'kernels[0].kernel_cmdline',
  ],
  [
    'a pattern that closes our group',
    { ...OLD, kernels: [{ ...kernel, kernel_cmdline: 'a)|(b' }] },
    'kernels[0].kernel_cmdline',
  ],
  ['a kernel without a command line', { ...OLD, kernels: [{ ...kernel, kernel_cmdline: undefined }] }, 'kernels[0]'],
  ['a kernel without an image', { ...OLD, kernels: [{ kernel_cmdline: 'x' }] }, 'kernels[0]'],
  ['images beside shim', { ...OLD, kernels: [{ ...kernel, images: [digest] }] }, 'kernels[0].images'],
  [
    'a signed image without authorities',
    { ...OLD, kernels: [{ images: ['signed'], kernel_cmdline: 'x' }] },
    'kernels[0]',
  ],
  [
    'a SbatLevel and a shim that is whatever is signed',
    {
      ...OLD,
      authorities: [{ ...signature, variable: 'db' }],
      sbat_level: 'sbat,1,2025021800\n',
      kernels: [
        kernel,
        { images: ['signed', digest], kernel_cmdline: 'x' },
        { images: [digest, 'signed'], kernel_cmdline: 'x' },
      ],
    },
    'kernels[1]',
  ],
  ['a PCR that is not judged', { ...OLD, digests: { 10: [digest] } }, 'digests.10'],
  [
    'a kernel with events of PCR 4',
    { ...OLD, kernels: [{ ...kernel, digests: { 4: [digest] } }] },
    'kernels[0].digests.4',
  ],
  ['an unlisted kind that there is not', { ...OLD, unlisted: ['everything'] }, 'unlisted[0]'],
  ['a rule that there is not', { ...OLD, database_rules: { db: 'any' } }, 'database_rules.db'],
  ['a rule for no database', { ...OLD, database_rules: { dbt: 'exact' } }, 'database_rules.dbt'],
  [
    'an authority of an unknown variable',
    { ...OLD, authorities: [{ ...signature, variable: 'x' }] },
    'authorities[0].variable',
  ],
  ['no SbatLevel', { ...OLD, sbat_level: 'shim,4' }, 'sbat_level'],
  ['text for a yes', { ...OLD, has_secureboot: 'false' }, 'has_secureboot'],
  ['a word for DMA that there is not', { ...OLD, dma_protection: 'no' }, 'dma_protection'],
] as const) {
  test(`a reference state with ${what} is refused, with the path`, () => {
    assert.deepEqual(
      problems(json).map(([at]) => at),
      [path],
    );
  });
}

test('all problems are told at once, and no more than a hundred', () => {
  assert.deepEqual(
    problems({ ...OLD, pk: 1, kek: 1 }).map(([path]) => path),
    ['pk', 'kek'],
  );
  assert.equal(problems({ ...OLD, dbx: Array.from({ length: 500 }, () => 1) }).length, 100);
});

test('a reference state is wanted', () => {
  for (const json of [undefined, null, [], 'x', 1]) assert.equal(problems(json).length, 1);
  assert.match(problems(undefined)[0]?.[1] ?? '', /keylime-policy create measured-boot/);
  assert.ok(problems({}).length > 5);
});

test('no JSON at all makes the decoder throw', () => {
  const values: fc.Arbitrary<unknown> = fc.anything({ withNullPrototype: true, maxDepth: 3 });
  const members = fc.constantFrom(...Object.keys(OLD), 'digests', 'unlisted', 'authorities', '__proto__', 'images');
  fc.assert(
    fc.property(fc.dictionary(members, values), (changed) => {
      assert.equal(typeof decodeStrictReference({ ...OLD, ...changed }).ok, 'boolean');
      decodeStrictReference({ ...OLD, kernels: [{ ...kernel, ...changed }] });
    }),
  );
});
