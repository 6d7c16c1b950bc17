import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isEmptyReference } from './empty-reference.ts';

test('[compat] only a reference state without content is none', () => {
  for (const text of ['', '{}', ' [] ', 'null', 'false', '0', '""']) assert.equal(isEmptyReference(text), true, text);
  for (const text of ['{"a": 1}', '[0]', 'not JSON', '1']) assert.equal(isEmptyReference(text), false, text);
});
