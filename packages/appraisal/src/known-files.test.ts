import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSideBySide } from '@keylime/ima/side-by-side';
import fc from 'fast-check';
import { countJudged, knownFiles } from './known-files.ts';
import { appraiseLines, BOOT, BOOT_LINE, kindsOf, lineOf, policyWith, sha256 } from './list.fixture.ts';

const paths = Array.from({ length: 20 }, (_, i) => `/opt/file-${i}`);
const changes = {
  digests: Object.fromEntries(
    paths.slice(0, 15).map((path, i) => [path, i % 3 ? [sha256(path)] : [sha256(path), sha256('old')]]),
  ),
  excludes: ['/opt/file-19'],
};

/** A policy that has judged so much that its files are known as entries of both templates. */
function usedPolicy() {
  const policy = policyWith(changes);
  const many = Array.from({ length: 4500 }, () => lineOf(`ima-ng sha256:${sha256('/opt/file-1')} /opt/file-1`));
  const signed = many.map((line) => lineOf(`${line.slice(44).replace('ima-ng', 'ima-sig')} `));
  for (const lines of [many, signed]) {
    const boot = lines === many ? BOOT_LINE : lineOf(`ima-sig sha256:${BOOT} boot_aggregate `);
    for (let i = 0; i < 2; i++) assert.deepEqual(kindsOf(appraiseLines([boot, ...lines], { policy })), []);
  }
  return policy;
}

const used = usedPolicy();

for (const template of ['ima-ng', 'ima-sig'] as const) {
  const end = template === 'ima-sig' ? ' ' : '';
  const boot = lineOf(`${template} sha256:${BOOT} boot_aggregate${end}`);
  const line = fc
    .record({
      path: fc.constantFrom(...paths),
      content: fc.constantFrom('right', 'right', 'right', 'old', 'evil'),
      hash: fc.constantFrom('right', 'right', 'ones'),
    })
    .map(({ path, content, hash }) => {
      const text = lineOf(`${template} sha256:${sha256(content === 'right' ? path : content)} ${path}${end}`);
      return hash === 'right' ? text : text.replace(/ [0-9a-f]{40} /, ` ${'f'.repeat(40)} `);
    });

  test(`a policy much used judges ${template} entries as it did when it was new`, () => {
    const known = knownFiles(used, Buffer.from(`${boot}\n`)).next();
    assert.ok(known.done && known.value !== undefined, 'the files of the policy are known');
    fc.assert(
      fc.property(fc.array(line, { maxLength: 30 }), (lines) => {
        const list = [boot, ...lines];
        assert.deepEqual(appraiseLines(list, { policy: used }), appraiseLines(list, { policy: policyWith(changes) }));
      }),
    );
  });
}

test('for a short list a policy is not prepared, however much it was used', () => {
  const policy = policyWith(changes);
  for (let i = 0; i < 50; i++) appraiseLines([BOOT_LINE], { policy });
  assert.deepEqual(knownFiles(policy, Buffer.from(`${BOOT_LINE}\n`)).next(), { done: true, value: undefined });
});

test('a policy used less than it lists files is not prepared', () => {
  const policy = policyWith(changes);
  appraiseLines([BOOT_LINE], { policy });
  assert.deepEqual(knownFiles(policy, Buffer.from(`${BOOT_LINE}\n`)).next(), { done: true, value: undefined });
});

test('a full list must begin with boot_aggregate however well its entries are known', () => {
  const lines = paths.slice(1, 10).map((path) => lineOf(`ima-ng sha256:${sha256(path)} ${path}`));
  assert.deepEqual(kindsOf(appraiseLines(lines, { policy: used })), ['ima_boot_aggregate_missing']);
});

test('of lists that are judged side by side one prepares the policy, and the others do not wait for it', () => {
  const digests = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`/opt/many-${i}`, [sha256('x')]]));
  const policy = policyWith({ digests });
  const list = Buffer.alloc(2 ** 20, `${lineOf(`ima-ng sha256:${BOOT} boot_aggregate`)}\n`);
  countJudged(policy, list);
  const prepared: boolean[] = [];
  runSideBySide(
    [1, 2, 3, 4].map(() => knownFiles(policy, list)),
    (_, result) => prepared.push('value' in result && result.value !== undefined),
  );
  assert.deepEqual(prepared, [false, false, false, true]);
});
