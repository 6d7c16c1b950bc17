import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '@keylime/core/json';
import fc from 'fast-check';
import { pythonJson, pythonRepr } from './python-json.ts';

test('JSON text has the separators of Python', () => {
  assert.equal(pythonJson({ uuids: [['a1'], []], n: 3, none: null }), '{"uuids": [["a1"], []], "n": 3, "none": null}');
});

test('JSON text escapes everything outside ASCII by UTF-16 unit', () => {
  assert.equal(pythonJson('é\u{1f600}"\n\u007f'), '"\\u00e9\\ud83d\\ude00\\"\\n\u007f"');
});

test('repr prints the constants and quotes of Python', () => {
  assert.equal(
    pythonRepr({ code: 200, status: 'Success', results: { a: null, b: true, c: [false, 1.5] } }),
    "{'code': 200, 'status': 'Success', 'results': {'a': None, 'b': True, 'c': [False, 1.5]}}",
  );
});

test('repr picks the quote that needs no escape', () => {
  assert.equal(pythonRepr("it's"), `"it's"`);
  assert.equal(pythonRepr(`it's "so"`), `'it\\'s "so"'`);
  assert.equal(pythonRepr('a\\b'), "'a\\\\b'");
});

test('repr escapes what is not printable', () => {
  assert.equal(pythonRepr('\n\t\u0000\u007f\u00a0\u2028é\u{e0001}'), "'\\n\\t\\x00\\x7f\\xa0\\u2028é\\U000e0001'");
});

test('JSON text reads back as the same value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = pythonJson(value as Json);
      assert.match(text, /^[\0-\x7f]*$/);
      assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
    }),
  );
});
