import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseIni } from './ini.ts';

const read = (text: string) => {
  const { sections, problems } = parseIni(text, 'a.conf');
  const plain = [...sections].map(([name, options]) => [
    name,
    Object.fromEntries([...options].map(([k, v]) => [k, v.text])),
  ]);
  return { sections: Object.fromEntries(plain), problems: problems.map(({ origin, text: what }) => [origin, what]) };
};

test('values stand after = or :, names are lower-cased, sections keep their case', () => {
  assert.deepEqual(read('[Verifier]\nIP = 1.2.3.4\nport:8881\nurl = a=b:c\n').sections, {
    Verifier: { ip: '1.2.3.4', port: '8881', url: 'a=b:c' },
  });
});

test('comments stand on lines of their own; what follows a value belongs to it', () => {
  const text = '# one\n; two\n[a]\n  # three\nx = 1 # not a comment\n';
  assert.deepEqual(read(text).sections, { a: { x: '1 # not a comment' } });
});

test('indented lines continue the value, over comments and empty lines', () => {
  const text = "[a]\nx = ['p',\n  # a comment\n\n    'q']\ny = 2\n";
  assert.deepEqual(read(text).sections, { a: { x: "['p',\n\n'q']", y: '2' } });
});

test('every value knows its file and line', () => {
  const value = parseIni('\n[a]\n\nx = 1\n', '/etc/a.conf').sections.get('a')?.get('x');
  assert.deepEqual(value, { text: '1', origin: { file: '/etc/a.conf', line: 4 } });
});

test('all that is wrong is reported with its line, and the rest is read', () => {
  const { sections, problems } = read('early = 1\n[a]\nx = 1\nx = 2\nnonsense\n= 3\n[a]\ny = 4\n');
  assert.deepEqual(sections, { a: { x: '1', y: '4' } });
  assert.deepEqual(
    problems.map(([origin]) => origin),
    [1, 4, 5, 6, 7].map((line) => ({ file: 'a.conf', line })),
  );
});

test('Windows line ends and a byte order mark change nothing', () => {
  assert.deepEqual(read('\uFEFF[a]\r\nx = 1\r\n'), { sections: { a: { x: '1' } }, problems: [] });
});

test('what is written as options is read back', () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,20}$/);
  const value = fc.string({ unit: 'binary' }).map((text) => text.replace(/[\r\n]/g, '').trim());
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, minLength: 1 }), (options) => {
      const text = `[s]\n${options.map(([key, line]) => `${key} = ${line}`).join('\n')}\n`;
      assert.deepEqual(read(text), { sections: { s: Object.fromEntries(options) }, problems: [] });
    }),
  );
});

test('no text makes the parser throw', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('[', ']', '=', ' ', '\n', 'a', '#', ':') }), (text) => {
      assert.ok(Array.isArray(parseIni(text, 'x').problems));
    }),
  );
});
