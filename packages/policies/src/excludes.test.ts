import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildAutomaton } from './automaton.ts';
import { compileExcludes } from './excludes.ts';
import { createMatcher } from './matcher.ts';
import { parseExpression } from './regular-expression.ts';

function excludes(...patterns: string[]): (name: string) => boolean {
  const compiled = compileExcludes(patterns);
  assert.ok(compiled.ok, JSON.stringify(compiled));
  const { matches, matchesAscii } = compiled.value;
  return (name) => {
    const found = matches(name);
    const bytes = Buffer.from(`(${name})`);
    // One character is one byte: the same has to be found in bytes, wherever they stand.
    if (bytes.length === name.length + 2) assert.equal(matchesAscii(bytes, 1, bytes.length - 1), found, name);
    return found;
  };
}

/** Each row was asked of Python 3.11: `re.match(pattern, name)`. */
for (const [pattern, matching, others] of [
  ['/tmp', ['/tmp', '/tmpfoo', '/tmp/x'], ['/var/tmp', '/TMP', '']],
  ['', ['', '/anything'], []],
  ['/tmp/.*\\.log$', ['/tmp/a.log', '/tmp/a.log\n'], ['/tmp/a.log2', '/tmp/a.log\nb', '/tmp/\na.log']],
  ['/a\\Z', ['/a'], ['/a\n', '/ab']],
  ['\\A/a|^/b', ['/ax', '/b'], ['x/a', '/c']],
  ['a{2}b{,1}c{1,}', ['aac', 'aabccc'], ['ac', 'aabb']],
  ['a{', ['a{'], ['a']],
  ['a{x}', ['a{x}'], ['ax']],
  ['[]a]+$', [']a]'], ['b']],
  ['[^]a]$', ['b'], [']', 'a']],
  ['[a\\-z]$', ['-', 'a'], ['b']],
  ['\\101\\x41\\u0041\\U00000041', ['AAAA'], ['AAA']],
  ['\\d\\s\\w$', ['٣\u2003é', '1\x1cٳ'], ['a é']],
  ['(?a:\\d\\s\\w)$', ['3 e'], ['٣ e', '3\u2003e', '3 é']],
  ['(?i:é|K)$', ['É', 'é', 'k', '\u212a'], ['e']],
  ['(?ia:k)$', ['K'], ['\u212a']],
  ['(?ia:[\u212a\u017f-\u0180])$', ['\u212a', '\u017f'], ['k', 's']],
  ['(?i:[a-z])$', ['\u0130', 'I', '\u212a'], ['\u00e9']],
  ['(?i:\u0130|\u0390|\ufb05)$', ['i', '\u0131', '\u1fd3', '\ufb06'], ['\u0399']],
  ['(?i:[^a])$', ['b'], ['A', 'a']],
  ['(?i:[^i])$', ['b'], ['I', '\u0130', '\u0131']],
  ['(?P<name>x)+?y', ['xxy'], ['y']],
  ['(?x: a  b # rest\n c)', ['abc'], ['a b']],
  ['a(?#comment)*$', ['', 'aaa'], ['b']],
  ['(?s:.)x', ['\nx'], []],
  ['(?m:^a$)', ['a\nb', 'a'], ['ab']],
  ['.*\\bfoo\\b', ['a foo', 'foo-'], ['food', 'éfoo']],
  ['(?a:.*\\bfoo)', ['éfoo'], ['efoo']],
  ['.*o\\B', ['foot', 'foo'], ['fo']],
  ['.$', ['😀', '\udcff'], ['ab', '\n']],
  ['[\u{1f600}-\u{1f610}]$', ['😀'], ['\u{1f611}']],
] as const) {
  test(`${JSON.stringify(pattern)} matches what it matches in Python`, () => {
    const matches = excludes(pattern);
    for (const name of matching) assert.equal(matches(name), true, JSON.stringify(name));
    for (const name of others) assert.equal(matches(name), false, JSON.stringify(name));
  });
}

test('a list without patterns excludes nothing, one with several whatever any of them does', () => {
  assert.equal(excludes()(''), false);
  const matches = excludes('/a/b', '/a/c$', '/a(?i:D)');
  assert.deepEqual(['/a/bx', '/a/c', '/a/cx', '/aD', '/ad', '/a'].map(matches), [true, true, false, true, true, false]);
});

for (const [pattern, message] of [
  ['(', 'missing ), unterminated group at position 0'],
  ['a)', 'unbalanced parenthesis at position 1'],
  ['[a', 'unterminated character set at position 0'],
  ['a**', 'multiple repeat at position 2'],
  ['*a', 'nothing to repeat at position 0'],
  ['^*', 'nothing to repeat at position 0'],
  ['a{2,1}', 'the least number of repetitions is greater than the greatest at position 1'],
  ['a{1001}', 'more than 1000 counted repetitions at position 1'],
  ['a\\', 'bad escape (end of pattern) at position 1'],
  ['\\q', 'bad escape \\q at position 0'],
  ['[z-a]', 'bad character range at position 1'],
  ['\\400', 'octal escape above \\377 at position 0'],
  ['(a)\\1', 'back-references are not supported at position 3'],
  ['(?P<n>a)(?P=n)', 'back-references are not supported at position 8'],
  ['a(?=b)', 'look-ahead is not supported at position 1'],
  ['a(?!b)', 'look-ahead is not supported at position 1'],
  ['(?<=a)b', 'look-behind is not supported at position 0'],
  ['(?<!a)b', 'look-behind is not supported at position 0'],
  ['(a)(?(1)b|c)', 'conditional groups are not supported at position 3'],
  ['(?>a)', 'atomic groups are not supported at position 0'],
  ['a++', 'possessive quantifiers are not supported at position 1'],
  ['(?i)a', 'flags for the whole expression are not supported, write (?i:...) at position 0'],
  ['(?au:a)', 'flags a and u are incompatible at position 0'],
  ['(?L:a)', 'unknown extension ?L at position 0'],
  ['(?P<n>a)(?P<n>b)', "group name 'n' is used twice at position 8"],
  [`${'('.repeat(101)}${')'.repeat(101)}`, 'groups nested deeper than 100 at position 100'],
  ['(a{1000}){1000}', 'needs more than 10000 states: lower its counted repetitions'],
  ['((((x?){1000}){1000}){1000}){1000}', 'needs more than 10000 states: lower its counted repetitions'],
] as const) {
  test(`${pattern.slice(0, 40)} is refused with its reason and its place in the list`, () => {
    assert.deepEqual(compileExcludes(['/fine', pattern]), { ok: false, problem: [{ index: 1, message }] });
  });
}

test('every pattern that cannot be used is reported, and one is enough to refuse the list', () => {
  const compiled = compileExcludes(['(', '/fine', ')']);
  assert.deepEqual(!compiled.ok && compiled.problem.map(({ index }) => index), [0, 2]);
});

/** Patterns that mean the same in Python and, anchored, in JavaScript. */
const pattern = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('a', 'b', '/', '.', '[ab]', '[^a]', '\\d', '\\w', '\\.', '\\b', '(?:a|/)', '$'),
    fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => `${a}${b}`),
    fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => `(?:${a}|${b})`),
    fc
      .tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '*?', '{2}', '{1,3}', '{0,2}'))
      .map(([a, q]) => `(?:${a})${q}`),
  ),
})).pattern;
const name = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '1', '-'), maxLength: 8 });

test('any list of patterns matches as JavaScript matches their alternatives at the start', () => {
  fc.assert(
    fc.property(
      fc.array(pattern, { minLength: 1, maxLength: 4 }),
      fc.array(name, { maxLength: 10 }),
      (patterns, names) => {
        const matches = excludes(...patterns);
        const javaScript = new RegExp(`^(?:${patterns.map((one) => `(?:${one})`).join('|')})`);
        for (const one of names) assert.equal(matches(one), javaScript.test(one), one);
      },
    ),
    { numRuns: 500 },
  );
});

test('a cache too small for the names gives the same answers', () => {
  const parsed = parseExpression('(?:.*a.{6}b|/x(?:y|z){3}\\b)');
  const automaton = parsed.ok ? buildAutomaton([parsed.value]) : undefined;
  assert.ok(automaton);
  const tiny = createMatcher(automaton, 100);
  const ample = createMatcher(automaton);
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', 'b', 'x', 'y', 'z', '/'), maxLength: 30 }), (one) => {
      assert.equal(tiny.matches(one), ample.matches(one));
      assert.equal(tiny.matchesAscii(Buffer.from(one), 0, one.length), ample.matches(one));
    }),
  );
});

test('no text makes the compiler throw', () => {
  const noise = fc.string({ unit: fc.constantFrom(...'()[]{}|*+?^$\\.,:-=!<>#PiLx019aé\n'), maxLength: 30 });
  fc.assert(
    fc.property(noise, name, (text, one) => {
      const compiled = compileExcludes([text]);
      assert.equal(
        typeof (compiled.ok ? compiled.value.matches(one) : compiled.problem[0].message),
        compiled.ok ? 'boolean' : 'string',
      );
    }),
    { numRuns: 2000 },
  );
});

test('patterns that take exponential time elsewhere are matched step by step', () => {
  const matches = excludes('(a+)+$', '(a|a)*b', '(.*)*c', '(?:a?){30}a{30}x');
  assert.equal(matches(`${'a'.repeat(100_000)}!`), false);
});
