import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBootPolicies } from './boot-policies.ts';
import { decodeStoredMbPolicy } from './mb-policy.ts';

const settings = { imports: [], workDir: '/', evaluate: 'once', timeoutMs: 1000 } as const;
const text = JSON.stringify({ kernels: [], digests: {}, authorities: [], sbat_level: 'sbat,1,2021030218\n' });

async function warning(defaultRules: string, rules: string | null, reference: string | null = text) {
  const policies = await openBootPolicies({ ...settings, defaultRules });
  return decodeStoredMbPolicy({ name: 'fleet', text: reference, rules, checksum: 'c' }, policies).warning;
}

test('a reference state that says more than the policy of the settings looks at is warned of', async () => {
  assert.match((await warning('accept-all', null)) ?? '', /accept-all .* looks at nothing of it/);
  assert.match(
    (await warning('example', null)) ?? '',
    /example .* looks at all but authorities, sbat_level\. Store it/,
  );
  for (const [defaultRules, rules, reference] of [
    ['strict', null, text],
    ['reject-all', null, text],
    ['accept-all', 'strict', text],
    ['accept-all', 'accept-all', text],
    ['accept-all', null, '{}'],
    ['accept-all', null, null],
    ['example', null, '{"kernels": []}'],
  ] as const) {
    assert.equal(await warning(defaultRules, rules, reference), undefined, `${defaultRules} ${rules} ${reference}`);
  }
});
