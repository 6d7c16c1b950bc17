import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compilePattern } from './text-pattern.ts';

const matches = (pattern: string, text: string): boolean => {
  const compiled = compilePattern(pattern);
  assert(compiled.ok, pattern);
  return compiled.value.matches(text);
};

test('a pattern matches all of a text, whatever alternatives it has', () => {
  assert.equal(matches('a|b', 'a'), true);
  assert.equal(matches('a|b', 'ab'), false);
  assert.equal(matches('a|ab', 'ab'), true);
  assert.equal(matches('a', 'a\n'), false);
  assert.equal(matches('a.c', 'a\nc'), false);
  assert.equal(matches('', 'x'), false);
});

test('what re.escape of Python writes is read', () => {
  assert.equal(matches('/boot/vmlinuz\\ root\\=UUID\\=1\\-2\\ \\#\\&\\~', '/boot/vmlinuz root=UUID=1-2 #&~'), true);
});

test('a pattern that is none is refused, with its reason and position', () => {
  assert.deepEqual(compilePattern('a)'), { ok: false, problem: 'unbalanced parenthesis at position 1' });
  assert.equal(compilePattern('a)|(b').ok, false);
  assert.equal(compilePattern('(a)\\1').ok, false);
});

test('time is linear in the text', () => {
  const text = 'a'.repeat(50_000);
  assert.equal(matches('(a*)*b', text), false);
});
