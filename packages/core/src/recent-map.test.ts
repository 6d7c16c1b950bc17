import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentMap } from './recent-map.ts';

test('what was used least of late makes room, and nothing else', () => {
  const map = new RecentMap<string, number>(3);
  for (const [value, key] of ['a', 'b', 'c'].entries()) map.set(key, value);
  assert.equal(map.get('a'), 0);
  map.set('b', 7);
  map.set('d', 3);
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((key) => map.get(key)),
    [0, 7, undefined, 3],
  );
});
