import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseActionList } from './action-list.ts';

test('names are separated by commas, blanks, tabs or newlines, perhaps in brackets', () => {
  const names = ['local_action_a', 'b.sh', 'c'];
  for (const text of [
    'local_action_a,b.sh,c',
    'local_action_a b.sh\tc',
    'local_action_a\r\nb.sh\n\nc\n',
    ' [local_action_a, b.sh, c] ',
    '[\nlocal_action_a\nb.sh,,c]',
  ]) {
    assert.deepEqual(parseActionList(text), { names, refused: [] });
  }
  for (const text of ['', ' \n', '[]', '[ ]']) assert.deepEqual(parseActionList(text), { names: [], refused: [] });
  assert.deepEqual(parseActionList('a,a b').names, ['a', 'b']);
  assert.deepEqual(parseActionList('"a"').names, ['"a"']);
});

test('[MUST] a name with parts of a path, an option or a control character is refused, and told', () => {
  for (const name of ['../x', '/bin/sh', 'a/b', '..', '.', 'a\\b', '-c', 'a\0b', '\u001bx', 'x'.repeat(101)]) {
    assert.deepEqual(parseActionList(`good ${name}`), { names: ['good'], refused: [name] }, JSON.stringify(name));
  }
});

test('no text gives a name that leads out of a folder', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', '.', '/', '\\', ',', '[', ']', '\n', '\0', '-') }), (text) => {
      for (const name of parseActionList(text).names) {
        assert.ok(!/[/\\\0]/.test(name) && name !== '..' && name !== '.' && !name.startsWith('-'), name);
      }
    }),
  );
});
