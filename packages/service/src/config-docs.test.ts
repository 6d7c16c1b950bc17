import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { withOptionTables } from './config-docs.ts';

test('docs/configure.md says what the option declarations say (node scripts/config-docs.ts writes it)', () => {
  const document = readFileSync(path.join(import.meta.dirname, '../../../docs/configure.md'), 'utf8');
  assert.equal(document, withOptionTables(document));
});

test('a table that is unknown or left out is an error', () => {
  assert.throws(() => withOptionTables('<!-- options nonsense -->\n<!-- end -->'), /no option table "nonsense"/);
  assert.throws(() => withOptionTables('nothing'), /left out: verifier/);
});
