import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { failureEvent } from './event.ts';
import { appraiseLines, BOOT_LINE, bufferLine, lineOf, pcrAfter, policyWith, sha256 } from './list.fixture.ts';

const [OLD, NEW, OTHER] = [sha256('old'), sha256('new'), sha256('other')];
const policy = policyWith({
  digests: { '/usr/bin/tool': [OLD], '/usr/bin/copy': [NEW], '/usr/bin/third': [NEW] },
  packages: { [OLD]: 'tool 1.0-1', [NEW]: 'tool 1.1-1' },
});
const contexts = (lines: readonly string[], more = {}) =>
  appraiseLines(lines, { policy, ...more }).failures.map((failure) => failureEvent(failure).context);

test('a digest that is not the listed one says which packages both came from, and for which paths it is listed', () => {
  assert.deepEqual(contexts([BOOT_LINE, lineOf(`ima-ng sha256:${NEW} /usr/bin/tool`)]), [
    {
      message: `Hashes for file /usr/bin/tool don't match: ${NEW} is not in the policy`,
      index: 1,
      path: '/usr/bin/tool',
      template: 'ima-ng',
      listed_for: ['/usr/bin/copy', '/usr/bin/third'],
      got_package: 'tool 1.1-1',
      expected_packages: ['tool 1.0-1'],
      got: NEW,
      expected: [OLD],
      policy_member: 'digests',
    },
  ]);
});

test('a later entry of a path names the first one, whose index counts from the start of the whole list', () => {
  const first = lineOf(`ima-ng sha256:${OLD} /usr/bin/tool`);
  const similar = lineOf(`ima-ng sha256:${OLD} /usr/bin/tool2`);
  const later = lineOf(`ima-sig sha256:${OTHER} /usr/bin/tool `);
  const [context] = contexts([BOOT_LINE, similar, first, later]).slice(-1);
  assert.deepEqual([context?.index, context?.first_index, context?.template], [3, 2, 'ima-sig']);
  const start = pcrAfter([BOOT_LINE]);
  const [continued] = contexts([first, later], { firstEntry: 1, runningPcr: start });
  assert.deepEqual([continued?.index, continued?.first_index], [2, 1]);
});

test('where a part of the list was judged, the explanation says from where on it looked', () => {
  const first = lineOf(`ima-ng sha256:${OLD} /usr/bin/tool`);
  const later = lineOf(`ima-ng sha256:${OTHER} /usr/bin/tool`);
  const runningPcr = pcrAfter([BOOT_LINE, first]);
  const [context] = contexts([later], { firstEntry: 2, runningPcr });
  assert.deepEqual([context?.index, context?.first_index, context?.judged_from], [2, undefined, 2]);
  const [whole] = contexts([BOOT_LINE, first, later]);
  assert.deepEqual([whole?.index, whole?.first_index, whole?.judged_from], [2, 1, undefined]);
});

test('every failure that is told is explained, and what is left out of an explanation is counted', () => {
  const many = Array.from({ length: 30 }, (_, i) => lineOf(`ima-ng sha256:${NEW} /opt/${i}`));
  const found = contexts([BOOT_LINE, ...many]);
  assert.deepEqual(
    found.map(({ got_package }) => got_package),
    Array.from({ length: 30 }, () => 'tool 1.1-1'),
  );
  const versions = Array.from({ length: 20 }, (_, i) => sha256(`version ${i}`));
  const digests = { '/usr/bin/tool': versions, ...Object.fromEntries(versions.map((_, i) => [`/copy/${i}`, [OTHER]])) };
  const [context] = contexts([BOOT_LINE, lineOf(`ima-ng sha256:${OTHER} /usr/bin/tool`)], {
    policy: policyWith({ digests }),
  });
  const lengthOf = (list: unknown) => (Array.isArray(list) ? list.length : 0);
  assert.deepEqual([lengthOf(context?.expected), context?.expected_more], [16, 4]);
  assert.deepEqual([lengthOf(context?.listed_for), context?.listed_for_more], [3, 17]);
});

test('the digest of a key or a buffer is looked for among those of its kind', () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
  const listedFor = (member: string) =>
    contexts([BOOT_LINE, bufferLine('.ima', key)], { policy: policyWith({ [member]: { other: [sha256(key)] } }) }).map(
      ({ listed_for, policy_member }) => [policy_member, listed_for],
    );
  assert.deepEqual(listedFor('keyrings'), [['keyrings', ['other']]]);
  assert.deepEqual(listedFor('digests'), [['keyrings', undefined]]);
  assert.deepEqual(listedFor('ima-buf'), [['keyrings', undefined]]);
});

test('a path that is not known, under a digest that is not, has nothing to add', () => {
  const [context] = contexts([BOOT_LINE, lineOf(`ima-ng sha256:${OTHER} /opt/x`)]);
  assert.deepEqual(context, {
    message: 'File not found in allowlist: /opt/x',
    index: 1,
    path: '/opt/x',
    template: 'ima-ng',
    got: OTHER,
    policy_member: 'digests',
  });
});

test('a key of no use is told with its keyring and digest, a list without its beginning with what belongs there', () => {
  const key = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
  assert.deepEqual(contexts([BOOT_LINE, bufferLine('.ima', key)]), [
    {
      message: 'Key of entry 1 on .ima is of type ed25519',
      index: 1,
      path: '.ima',
      template: 'ima-buf',
      got: sha256(key),
    },
  ]);
  assert.deepEqual(contexts([lineOf(`ima-ng sha256:${OLD} /usr/bin/tool`)]), [
    {
      message: 'The measurement list does not start with boot_aggregate',
      index: 0,
      expected: 'boot_aggregate',
    },
  ]);
});

test('names that are no UTF-8 are found too', () => {
  const name = Buffer.from([0x2f, 0xff, 0x41]).toString('latin1');
  const line = (digest: string) => Buffer.from(lineOf(`ima-ng sha256:${digest} ${name}`), 'latin1');
  const list = Buffer.concat([
    Buffer.from(`${BOOT_LINE}\n`),
    line(OLD),
    Buffer.from('\n'),
    line(NEW),
    Buffer.from('\n'),
  ]);
  const lines = list.toString('latin1').trimEnd().split('\n');
  const found = appraiseLines(lines, { policy, list, quotedPcr: pcrAfter(lines) }).failures.map(failureEvent);
  assert.deepEqual(
    found.map(({ context }) => [context.index, context.first_index, context.path]),
    [
      [1, undefined, '/\udcffA'],
      [2, 1, '/\udcffA'],
    ],
  );
});
