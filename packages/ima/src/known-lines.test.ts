import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import fc from 'fast-check';
import { parseImaLine } from './entry.ts';
import { type FileTemplate, KnownLines } from './known-lines.ts';
import { type ImaReplay, replayImaList } from './replay.ts';
import { scanImaList } from './scan.ts';
import { runSideBySide } from './side-by-side.ts';

const D = sha256('hello\n');
const OTHER = sha256('other\n');

function sha256(content: string): string {
  return digest('sha256', Buffer.from(content)).toString('hex');
}

type Files = readonly (readonly [path: string, hex: string])[];

function made(files: Files, template: FileTemplate = 'ima-ng', logHashAlgorithm: 'sha1' | 'sha256' = 'sha1') {
  const characters = files.reduce((sum, [path, hex]) => sum + path.length + hex.length, 0);
  const known = KnownLines.make(files.length, characters, { template, logHashAlgorithm });
  assert.ok(known);
  for (const [path, hex] of files) known.add(path, hex);
  known.finish();
  return known;
}

/** The line that a kernel would print with these fields, given as one character per byte. */
function lineOf(fields: string, algorithm: 'sha1' | 'sha256' = 'sha1'): string {
  const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok, fields);
  return `10 ${digest(algorithm, parsed.value.templateInput).toString('hex')} ${fields}`;
}

const FIRST = lineOf(`ima-ng sha256:${D} boot_aggregate`);

type Machine = { readonly lines: readonly string[]; readonly quotedPcr: Uint8Array };
type Found = { readonly shown: readonly number[]; readonly replay: ImaReplay };

/** For each list: indices of the entries that are shown, of those that the quote covers, and what the replay found. */
function scannedTogether(
  machines: readonly Machine[],
  known: KnownLines | undefined,
  logHashAlgorithm: 'sha1' | 'sha256' = 'sha1',
): readonly Found[] {
  const shown: number[][] = machines.map(() => []);
  const steps = machines.map(({ lines, quotedPcr }, i) => {
    const list = Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
    const pcrs = { runningPcr: Buffer.alloc(32), quotedPcr };
    const show = ({ index }: { readonly index: number }) => (shown[i]?.push(index) ?? 0) > 0;
    return scanImaList(
      { list, firstIndex: 0, bank: 'sha256', logHashAlgorithm, ...pcrs },
      { known, file: (index) => show({ index }), line: show },
    );
  });
  const found: Found[] = [];
  runSideBySide(steps, (i, result) => {
    if ('error' in result) throw result.error;
    const replay = result.value;
    const end = replay.certifiedCount ?? replay.entryCount;
    found[i] = { shown: (shown[i] ?? []).filter((index) => index < end).toSorted((a, b) => a - b), replay };
  });
  return found;
}

function scanned(
  lines: readonly string[],
  known: KnownLines | undefined,
  quotedPcr: Uint8Array,
  log: 'sha1' | 'sha256' = 'sha1',
): Found {
  return scannedTogether([{ lines, quotedPcr }], known, log)[0] as Found;
}

/** Whether a line that stands second in a list is known. */
function knows(known: KnownLines, line: string, algorithm: 'sha1' | 'sha256' = 'sha1'): boolean {
  const first = lineOf(`ima-ng sha256:${D} boot_aggregate`, algorithm);
  return !scanned([first, line], known, Buffer.alloc(32, 1), algorithm).shown.includes(1);
}

test('a listed file is known as the line that a kernel prints, and as no other', () => {
  const sha1 = 'f572d396fae9206628714fb2ce00f72e94f2258f';
  const files: Files = [
    ['/opt/demo/é', D],
    ['/opt/old', sha1],
  ];
  const known = made(files);
  const line = lineOf(`ima-ng sha256:${D} /opt/demo/\xc3\xa9`);
  assert.equal(knows(known, line), true);
  assert.equal(knows(known, lineOf(`ima-ng sha1:${sha1} /opt/old`)), true);
  assert.equal(knows(known, lineOf(`ima-ng sha256:${OTHER} /opt/demo/\xc3\xa9`)), false);
  assert.equal(knows(known, lineOf(`ima-ng sha256:${D} /opt/old`)), false);
  assert.equal(knows(known, lineOf(`ima-sig sha256:${D} /opt/demo/\xc3\xa9 `)), false);
  assert.equal(knows(known, lineOf(`ima-ng sha256:${D} /opt/demo/é`)), false, 'one character per byte');
  for (let at = 0; at < line.length; at++) {
    const changed = `${line.slice(0, at)}${line[at] === '1' ? '2' : '1'}${line.slice(at + 1)}`;
    assert.equal(knows(known, changed), false, changed);
  }
  assert.equal(knows(made(files, 'ima-ng', 'sha256'), line), false, 'another column');
  const wide = lineOf(`ima-ng sha256:${D} /opt/demo/\xc3\xa9`, 'sha256');
  assert.equal(knows(made(files, 'ima-ng', 'sha256'), wide, 'sha256'), true);
});

test('in template ima-sig the unsigned file is known, not the signed one', () => {
  const known = made([['/opt/demo', D]], 'ima-sig');
  assert.equal(knows(known, lineOf(`ima-sig sha256:${D} /opt/demo `)), true);
  assert.equal(knows(known, lineOf(`ima-sig sha256:${D} /opt/demo 030204f3452d230000`)), false);
  assert.equal(knows(known, lineOf(`ima-ng sha256:${D} /opt/demo`)), false);
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
      assert.equal(knows(known, lineOf(`${template} sha256:${D} ${path}${end}`)), false, path);
    }
  }
  assert.equal(knows(made(tricks, 'ima-sig'), lineOf(`ima-sig sha256:${D} /opt/demo 030204f3452d230000`)), false);
});

test('a policy that would take too much memory is not prepared', () => {
  const form = { template: 'ima-ng', logHashAlgorithm: 'sha1' } as const;
  assert.equal(KnownLines.make(70_000, 70_000 * 4000, form), undefined);
});

const files = Array.from({ length: 3000 }, (_, i) => [`/file-${i}`, sha256(`${i}`)] as const);
const lines = files.map(([path, hex]) => lineOf(`ima-ng sha256:${hex} ${path}`));

test('three thousand files are all known, and no others', () => {
  const others = files.map(([path]) => lineOf(`ima-ng sha256:${D} ${path}`));
  const list = [FIRST, ...lines, ...others];
  const { shown } = scanned(list, made(files), Buffer.alloc(32, 1));
  const expected = [0, ...others.map((_, i) => 1 + lines.length + i)];
  assert.deepEqual(shown, expected);
});

/** What the plain replay finds with the quote after `certified` entries. */
function plainly(
  list: readonly string[],
  certified: number,
): { readonly quotedPcr: Buffer; readonly replay: ImaReplay } {
  const bytes = (lines: readonly string[]) => Buffer.from(lines.map((line) => `${line}\n`).join(''), 'latin1');
  const run = (list: Uint8Array, quotedPcr: Uint8Array) => {
    const steps = replayImaList({
      list,
      firstIndex: 0,
      bank: 'sha256',
      runningPcr: Buffer.alloc(32),
      quotedPcr,
      logHashAlgorithm: 'sha1',
    });
    let step = steps.next();
    while (!step.done) step = steps.next();
    return step.value;
  };
  const { runningPcr: quotedPcr } = run(bytes(list.slice(0, certified)), Buffer.alloc(32, 1));
  return { quotedPcr, replay: run(bytes(list), quotedPcr) };
}

test('machines that measured the same from the start, side by side or not, are replayed as if each were the first', () => {
  const known = made(files);
  assert.deepEqual(scanned([FIRST, ...lines], known, Buffer.alloc(32, 1)).shown, [0]);
  assert.deepEqual(scanned([FIRST, ...lines], known, Buffer.alloc(32, 1)).shown, [0]);
  const odd = [
    lineOf(`ima-ng sha256:${D} /unknown`),
    `10 ${'0'.repeat(40)} ima-ng sha256:${D} /file-1`,
    `10 ${'f'.repeat(40)} ima-ng sha256:${D} /file-1`,
    lineOf(`ima-buf sha256:${D} name 00`),
    'no line',
    '',
  ];
  const machine = fc.record({
    common: fc.constantFrom(0, 1, 500, 512, 513, 1024, 1100, 2600, 3000),
    own: fc.array(fc.constantFrom(...odd, ...lines.slice(0, 20)), { maxLength: 20 }),
    quoted: fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  });
  const check = (
    all: readonly { readonly common: number; readonly own: readonly string[]; readonly quoted: number }[],
  ) => {
    const machines = all.map(({ common, own, quoted }) => {
      const list = [FIRST, ...lines.slice(0, common), ...own];
      return { lines: list, ...plainly(list, Math.round(quoted * list.length)) };
    });
    const found = scannedTogether(machines, known);
    for (const [i, { lines: list, quotedPcr, replay }] of machines.entries()) {
      assert.deepEqual(found[i]?.replay, replay);
      const entries = list.filter((line) => line !== '');
      const shownPlainly = scanned(list, undefined, quotedPcr).shown;
      assert.deepEqual(
        found[i]?.shown,
        shownPlainly.filter((index) => index === 0 || !lines.includes(entries[index] ?? '')),
      );
    }
  };
  fc.assert(fc.property(fc.array(machine, { minLength: 1, maxLength: 5 }), check), { numRuns: 40 });
});
