import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Literal, parsePythonLiteral } from './python-literal.ts';

const read = (text: string): Literal => {
  const reading = parsePythonLiteral(text);
  assert.ok(reading.ok, text);
  return reading.value;
};
const problem = (text: string): string => {
  const reading = parsePythonLiteral(text);
  assert.ok(!reading.ok, text);
  return reading.problem;
};

test('the values of existing files are read', () => {
  assert.deepEqual(read(`[{"event_id": ".*", 'severity_label': 'emergency'}]`), [
    { event_id: '.*', severity_label: 'emergency' },
  ]);
  assert.deepEqual(read("['sha512', 'sha384',\n 'sha256',]"), ['sha512', 'sha384', 'sha256']);
  assert.deepEqual(read('(1, 2.5, -3, 0x10, True, False, None)'), [1, 2.5, -3, 16, true, false, null]);
  assert.deepEqual(read('("a")'), 'a');
  assert.deepEqual(read('("a",)'), ['a']);
  assert.deepEqual(read('[]'), []);
  assert.deepEqual(read('{}'), {});
});

test('escapes, raw texts and texts side by side are read as Python reads them', () => {
  assert.equal(read(String.raw`'a\n\x41\u00e9\101\d\''`), "a\nA\u00e9A\\d'");
  assert.equal(read(String.raw`r'\d+'`), '\\d+');
  assert.equal(read(`'a' "b"`), 'ab');
});

test('what is not a literal is a problem that says where', () => {
  for (const text of [
    '',
    '[',
    "['a'",
    "['a' 1]",
    '[1,,2]',
    'ecc',
    '__import__("os")',
    '1 2',
    "'a",
    "'''a'''",
    '{1: 2}',
    '007',
    "b'a'",
    '9007199254740993',
  ]) {
    assert.match(problem(text), /at character \d+$/, text);
  }
});

test('brackets inside each other are limited', () => {
  assert.match(problem('['.repeat(100_000)), /^too many brackets/);
});

test('a key named __proto__ is a key', () => {
  assert.deepEqual(Object.keys(read('{"__proto__": 1}') as object), ['__proto__']);
});

test('JSON without its own words is read the same', () => {
  const words = fc.oneof(fc.string({ unit: 'grapheme' }), fc.integer());
  const value = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 4 },
      words,
      fc.array(tie('node')),
      fc.dictionary(fc.string(), tie('node'), { noNullPrototype: true }),
    ),
  })).node;
  fc.assert(fc.property(value, (json) => assert.deepEqual(read(JSON.stringify(json)), json)));
});

test('no text makes the parser throw', () => {
  const unit = fc.constantFrom(
    '[',
    ']',
    '{',
    '}',
    '(',
    ')',
    ',',
    ':',
    "'",
    '"',
    '\\',
    'x',
    'u',
    '1',
    '.',
    'e',
    '-',
    ' ',
    'r',
  );
  fc.assert(fc.property(fc.string({ unit }), (text) => typeof parsePythonLiteral(text).ok === 'boolean'));
});
