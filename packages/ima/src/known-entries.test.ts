import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { parseImaLine } from './entry.ts';
import { type FileTemplate, type KnownEntries, knownEntries } from './known-entries.ts';

const D = digest('sha256', Buffer.from('hello\n')).toString('hex');
const OTHER = digest('sha256', Buffer.from('other\n')).toString('hex');

function made(files: readonly (readonly [path: string, hex: string])[], template: FileTemplate): KnownEntries {
  const steps = knownEntries(files, files.length, template);
  let step = steps.next();
  while (!step.done) step = steps.next();
  assert.ok(step.value);
  return step.value;
}

/** Whether the entry that a kernel would print with these fields is known. */
function knows(known: KnownEntries, fields: string): boolean {
  const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok, fields);
  const hash = digest('sha256', parsed.value.templateInput);
  return known.has(
    Uint32Array.from({ length: 8 }, (_, i) => hash.readUInt32BE(4 * i)),
    0,
  );
}

test('a listed file is known by its template hash, with its digest and its name only', () => {
  const sha1 = 'f572d396fae9206628714fb2ce00f72e94f2258f';
  const known = made(
    [
      ['/opt/demo/é', D],
      ['/opt/old', sha1],
    ],
    'ima-ng',
  );
  assert.equal(knows(known, `ima-ng sha256:${D} /opt/demo/é`), false, 'one character per byte');
  assert.equal(knows(known, `ima-ng sha256:${D} /opt/demo/\xc3\xa9`), true);
  assert.equal(knows(known, `ima-ng sha1:${sha1} /opt/old`), true);
  assert.equal(knows(known, `ima-ng sha256:${OTHER} /opt/demo/\xc3\xa9`), false);
  assert.equal(knows(known, `ima-ng sha256:${D} /opt/old`), false);
  assert.equal(knows(known, `ima-sig sha256:${D} /opt/demo/\xc3\xa9 `), false);
});

test('in template ima-sig the unsigned file is known, not the signed one', () => {
  const known = made([['/opt/demo', D]], 'ima-sig');
  assert.equal(knows(known, `ima-sig sha256:${D} /opt/demo `), true);
  assert.equal(knows(known, `ima-sig sha256:${D} /opt/demo 030204f3452d230000`), false);
  assert.equal(knows(known, `ima-ng sha256:${D} /opt/demo`), false);
});

test('a path that would print as another line is left out', () => {
  const tricks = [
    ['/opt/demo 030204f3452d230000', D],
    [`/a\n10 ${'1'.repeat(40)} ima-sig sha256:${D} /opt/demo `, D],
    ['/opt/demo\0', D],
    ['/opt/\ud800', D],
    ['/opt/md5', '0'.repeat(64).slice(0, 41)],
  ] as const;
  for (const template of ['ima-ng', 'ima-sig'] as const) {
    const known = made(tricks, template);
    const end = template === 'ima-sig' ? ' ' : '';
    for (const path of ['/opt/demo', '/a', '/opt/\xef\xbf\xbd', '/opt/md5']) {
      assert.equal(knows(known, `${template} sha256:${D} ${path}${end}`), false, path);
    }
  }
  assert.equal(knows(made(tricks, 'ima-sig'), `ima-sig sha256:${D} /opt/demo 030204f3452d230000`), false);
});

test('ten thousand files are all known, and no others', () => {
  const files = Array.from(
    { length: 10_000 },
    (_, i) => [`/file-${i}`, digest('sha256', Buffer.from(`${i}`)).toString('hex')] as const,
  );
  const known = made(files, 'ima-ng');
  for (const [path, hex] of files) assert.equal(knows(known, `ima-ng sha256:${hex} ${path}`), true);
  for (const [path] of files.slice(0, 1000)) assert.equal(knows(known, `ima-ng sha256:${D} ${path}`), false);
});
