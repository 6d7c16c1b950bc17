import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digest, digestSize, type HashAlgorithm } from '@keylime/core/digest';
import fc from 'fast-check';
import { parseImaLine } from './entry.ts';
import { decodeUtf8 } from './list-text.ts';
import { type ImaLine, type ImaListPart, type ImaReplay, replayImaList } from './replay.ts';
import { scanImaList } from './scan.ts';
import { runSideBySide } from './side-by-side.ts';

type Seen = string | ImaLine;

/** What the plain replay finds, in the terms of `ImaVisitor`. */
function plainly(part: ImaListPart): [Seen[], ImaReplay] {
  const seen: Seen[] = [];
  const steps = replayImaList(part);
  let step = steps.next();
  for (; !step.done; step = steps.next()) seen.push(described(step.value));
  return [seen, step.value];
}

/** An ordinary file as the visitor's `file` is told of it; every other line as it is. */
function described(line: ImaLine): Seen {
  if (!line.parsed.ok || line.violation) return line;
  const { pcr, path, template, templateHash, fileDigest } = line.parsed.value;
  if (pcr !== 10 || (template !== 'ima-ng' && template !== 'ima-sig') || templateHash !== line.computedHash)
    return line;
  return `${line.index} ${path} ${fileDigest.hex}`;
}

function scanned(part: ImaListPart): [Seen[], ImaReplay, files: number] {
  const asked: [number, Seen][] = [];
  const lines: [number, Seen][] = [];
  const steps = scanImaList(part, {
    file: (index, path, hex) => asked.push([index, `${index} ${path} ${hex}`]) > 0,
    line: (line) => lines.push([line.index, described(line)]),
  });
  let step = steps.next();
  for (; !step.done; step = steps.next());
  const indices = lines.map(([index]) => index);
  assert.deepEqual(
    indices,
    indices.toSorted((a, b) => a - b),
  );
  const { certifiedCount, entryCount } = step.value;
  // Files are asked about before it is known where the quote ends; lines behind it are never shown.
  const files = asked.filter(([index]) => index < part.firstIndex + (certifiedCount ?? entryCount));
  const seen = [...files, ...lines].toSorted(([a], [b]) => a - b).map(([, one]) => one);
  return [seen, step.value, files.length];
}

function part(list: Buffer, more: Partial<ImaListPart> = {}): ImaListPart {
  const size = digestSize(more.bank ?? 'sha256');
  return {
    list,
    firstIndex: 0,
    bank: 'sha256',
    runningPcr: Buffer.alloc(size),
    quotedPcr: Buffer.alloc(size, 1),
    logHashAlgorithm: 'sha1',
    ...more,
  };
}

function assertSame(input: ImaListPart): void {
  const [seen, replay] = plainly(input);
  const [fastSeen, fastReplay] = scanned(input);
  assert.deepEqual(fastSeen, seen);
  assert.deepEqual(fastReplay, replay);
}

const vector = readFileSync(new URL('../../testing/vectors/debian12-uefi-vm/ima-after-evil.txt', import.meta.url));

test('the list of a real machine is read the fast way, and the same is found', () => {
  const input = part(vector, { quotedPcr: Buffer.alloc(32, 1), runningPcr: Buffer.alloc(32) });
  assertSame(input);
  const [seen, , files] = scanned(input);
  assert.deepEqual([seen.length, files], [369, 369]);
});

test('a line whose hash is no hex is extended by neither, wherever it and the quote stand', () => {
  const lines = vector.toString('latin1').split('\n').slice(0, 12);
  const zeros = Buffer.alloc(32);
  for (const broken of [[0], [1], [5, 6], [3, 9], [11]]) {
    const kept = lines.filter((_, i) => !broken.includes(i));
    const changed = lines.map((line, i) => (broken.includes(i) ? line.replace(/^10 .{4}/, '10 ZZZZ') : line));
    const list = Buffer.from(`${changed.join('\n')}\n`, 'latin1');
    for (let upTo = 1; upTo <= kept.length; upTo++) {
      const certified = Buffer.from(`${kept.slice(0, upTo).join('\n')}\n`, 'latin1');
      const [, { runningPcr }] = plainly(part(certified, { runningPcr: zeros }));
      assertSame(part(list, { runningPcr: zeros, quotedPcr: runningPcr }));
    }
  }
});

test('wherever the quote stands, the fast way stops where the plain one does', () => {
  const pcrs: Buffer[] = [];
  for (const upTo of [0, 1, 2, 3, 4, 5, 100, 366, 367, 368, 369]) {
    const list = Buffer.from(vector.toString('latin1').split('\n').slice(0, upTo).join('\n'), 'latin1');
    const [, { runningPcr }] = plainly(part(list, { runningPcr: Buffer.alloc(32) }));
    pcrs.push(runningPcr);
  }
  for (const quotedPcr of pcrs) assertSame(part(vector, { quotedPcr, runningPcr: Buffer.alloc(32) }));
});

const hex = fc.uint8Array({ minLength: 64, maxLength: 64 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const name = fc.oneof(
  fc
    .string({ unit: fc.constantFrom('/', 'a', 'é', ' ', '_', '\udcff'), maxLength: 150 })
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(4000, 4096, 4097, 9000).map((length) => Buffer.alloc(length, 'n')),
);
const fileDigest = fc
  .tuple(
    fc.constantFrom<HashAlgorithm | 'md5'>('sha256', 'sha256', 'sha1', 'sha384', 'sha512', 'md5'),
    hex,
    fc.boolean(),
  )
  .map(
    ([algorithm, digits, wrong]) =>
      `${algorithm}:${digits.repeat(2).slice(0, 2 * (algorithm === 'md5' ? 16 : digestSize(algorithm)) - (wrong ? 1 : 0))}`,
  );
const signature = fc.oneof(
  fc.constantFrom(
    '',
    '00',
    '0302',
    '030204f3452d230000',
    '030204f3452d230001ab',
    '300204f3452d230001ab',
    '030204f3452d230001',
    `030204f3452d230100${'ab'.repeat(256)}`,
    '03 02',
    'zz',
  ),
  hex,
);
const column = fc.constantFrom('right', 'right', 'right', 'wrong', 'zeros', 'ones', 'short', 'upper', 'cut', 'two');

/** Lines of every kind, most of them ordinary. */
const line = fc
  .record({
    pcr: fc.constantFrom('10', '10', '10', ' 9', '11'),
    template: fc.constantFrom('ima-ng', 'ima-ng', 'ima-sig', 'ima-sig', 'ima-buf', 'ima', 'ima-xx'),
    fileDigest,
    name,
    signature,
    column,
  })
  .map(({ pcr, template, fileDigest: field, name: path, signature: last, column: kind }) => {
    const rest = template === 'ima-sig' || template === 'ima-buf' ? ` ${last}` : '';
    const fields = Buffer.concat([Buffer.from(` ${template} ${field} `), path, Buffer.from(rest)]);
    return (algorithm: HashAlgorithm): Buffer => {
      const parsed = parseImaLine(Buffer.concat([Buffer.from(`10 ${'1'.repeat(40)}`), fields]));
      const right = parsed.ok
        ? digest(algorithm, parsed.value.templateInput).toString('hex')
        : '2'.repeat(2 * digestSize(algorithm));
      const columns = {
        right,
        wrong: right.replace(/^./, (digit) => (digit === '0' ? '1' : '0')),
        zeros: right.replace(/./g, '0'),
        ones: right.replace(/./g, 'f'),
        short: right.slice(2),
        upper: right.toUpperCase(),
        cut: `${right.slice(0, 20)}\n${right.slice(21)}`,
        two: `${right.slice(0, 30)} ${right.slice(31)}`,
      };
      return Buffer.concat([Buffer.from(`${pcr} ${columns[kind as keyof typeof columns]}`), fields]);
    };
  });

test('the fast way finds what the plain one does, whatever is in the list', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          { weight: 20, arbitrary: line },
          { weight: 1, arbitrary: fc.constantFrom('', 'nonsense', '10 ').map((text) => () => Buffer.from(text)) },
        ),
        { maxLength: 40 },
      ),
      fc.constantFrom<[HashAlgorithm, HashAlgorithm]>(
        ['sha256', 'sha1'],
        ['sha256', 'sha256'],
        ['sha1', 'sha1'],
        ['sha256', 'sha384'],
      ),
      fc.boolean(),
      fc.nat(45),
      (lines, [bank, logHashAlgorithm], newlineAtEnd, quotedAfter) => {
        const texts = lines.map((make) => make(logHashAlgorithm));
        const list = Buffer.concat(
          texts.flatMap((text, i) => (i < texts.length - 1 || newlineAtEnd ? [text, Buffer.from('\n')] : [text])),
        );
        const head = Buffer.concat(texts.slice(0, quotedAfter).flatMap((text) => [text, Buffer.from('\n')]));
        const [, { runningPcr: quotedPcr }] = plainly(
          part(head, { bank, logHashAlgorithm, runningPcr: Buffer.alloc(digestSize(bank)) }),
        );
        const runningPcr = Buffer.alloc(digestSize(bank));
        assertSame(part(list, { bank, logHashAlgorithm, runningPcr, quotedPcr, firstIndex: 5 }));
        assertSame(part(list, { bank, logHashAlgorithm, runningPcr, firstIndex: 5 }));
      },
    ),
    { numRuns: 300 },
  );
});

test('what stood in memory before is not read on behind the end of a list', () => {
  const whole = ['sha1', 'sha256'].map((algorithm) => {
    const fields = ` ima-ng sha256:${'ab'.repeat(32)} /opt/demo`;
    const parsed = parseImaLine(`10 ${'1'.repeat(40)}${fields}`);
    assert.ok(parsed.ok);
    return [
      algorithm,
      `10 ${digest(algorithm as 'sha1', parsed.value.templateInput).toString('hex')}${fields}\n`,
    ] as const;
  });
  for (const [algorithm, text] of whole) {
    const more = { logHashAlgorithm: algorithm as 'sha1', firstIndex: 1 };
    for (let length = 1; length < text.length; length++) {
      assertSame(part(Buffer.from(text.repeat(5)), more));
      assertSame(part(Buffer.from(text.slice(0, length)), more));
      assertSame(part(Buffer.from(text + text.slice(0, length)), more));
    }
  }
});

test('a list as text is read as the same list as bytes', () => {
  const lines = fc.array(
    fc.oneof(
      line,
      fc.constantFrom('', 'é', 'nonsense').map((text) => () => Buffer.from(text)),
    ),
    {
      maxLength: 20,
    },
  );
  fc.assert(
    fc.property(lines, fc.constantFrom(0, 1, 700), (made, repeats) => {
      const bytes = Buffer.concat(made.flatMap((make) => [make('sha1'), Buffer.from('\n')]));
      const list = Buffer.concat(
        [bytes, ...Array.from({ length: repeats }, () => bytes)].slice(0, 1 + 2e5 / (bytes.length + 1)),
      );
      assert.deepEqual(scanned({ ...part(list), list: decodeUtf8(list) }), scanned(part(list)));
    }),
    { numRuns: 60 },
  );
});

test('a line longer than the window of the fast way is read, as bytes and as text', () => {
  const long = `10 ${'1'.repeat(40)} ima-buf sha256:${'ab'.repeat(32)} name ${'00'.repeat(200_000)}\n`;
  const list = Buffer.concat([vector, Buffer.from(long), Buffer.from('\n'), vector, Buffer.from(long.trimEnd())]);
  assertSame(part(list));
  assert.deepEqual(scanned({ ...part(list), list: list.toString() }), scanned(part(list)));
});

test('more entries than fit into one batch are the same as in one piece', () => {
  const many = Buffer.concat(Array.from({ length: 4 }, () => vector));
  assertSame(part(many, { runningPcr: Buffer.alloc(32) }));
  const [, { runningPcr: quotedPcr }] = plainly(
    part(many.subarray(0, many.lastIndexOf('\n', -5000)), { runningPcr: Buffer.alloc(32) }),
  );
  assertSame(part(many, { runningPcr: Buffer.alloc(32), quotedPcr }));
});

test('lists that are read side by side do not disturb each other', () => {
  const long = Buffer.concat(Array.from({ length: 4 }, () => vector));
  const runningPcr = Buffer.alloc(32);
  const [, { runningPcr: quotedPcr }] = plainly(part(long.subarray(0, long.length >> 1), { runningPcr }));
  const inputs = [
    part(long),
    part(Buffer.from('nonsense\n\n10 \n')),
    part(vector.subarray(0, 5000)),
    { ...part(long), list: long.toString() },
    part(long.subarray(0, 2 * (long.length >> 1)), { quotedPcr }),
    part(long, { logHashAlgorithm: 'sha256', firstIndex: 9 }),
  ];
  const lines: ImaLine[][] = inputs.map(() => []);
  const found: ImaReplay[] = [];
  const steps = inputs.map((input, i) =>
    scanImaList(input, { file: () => false, line: (line) => lines[i]?.push(line) }),
  );
  runSideBySide(steps, (i, result) => {
    if ('error' in result) throw result.error;
    found[i] = result.value;
  });
  for (const [i, input] of inputs.entries()) {
    const steps = replayImaList(input);
    const plain: ImaLine[] = [];
    let step = steps.next();
    for (; !step.done; step = steps.next()) plain.push(step.value);
    assert.deepEqual(found[i], step.value);
    assert.deepEqual(
      lines[i]?.map((one) => ({ ...one, line: Buffer.from(one.line) })),
      plain.map((one) => ({ ...one, line: Buffer.from(one.line) })),
    );
  }
  assert.equal(found[4]?.certifiedCount !== undefined, true);
});

test('blank lines without end are read in pieces', () => {
  const steps = scanImaList(part(Buffer.alloc(3 << 20, '\n'), { runningPcr: Buffer.alloc(32) }), {
    file: () => assert.fail(),
    line: () => assert.fail(),
  });
  let pieces = 0;
  let step = steps.next();
  for (; !step.done; step = steps.next()) pieces++;
  assert.deepEqual([pieces, step.value.entryCount], [24, 0]);
});
