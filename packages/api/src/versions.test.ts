import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compareApiVersions,
  mayChangeApiVersion,
  negotiateApiVersion,
  parseApiVersion,
  saysVersionNotSupported,
} from './versions.ts';

test('the newest common version is negotiated', () => {
  assert.equal(negotiateApiVersion(['2.1', '2.5', '2.2']), '2.5');
  assert.equal(negotiateApiVersion(['1.0', '2.0', '2.6', '3.0']), '2.6');
  assert.equal(negotiateApiVersion(['2.6', '2.3'], ['2.1', '2.3']), '2.3');
});

test('without a common version nothing is negotiated', () => {
  assert.equal(negotiateApiVersion([]), undefined);
  assert.equal(negotiateApiVersion(['1.0', '3.0']), undefined);
  assert.equal(negotiateApiVersion(['v2.6', '2.60', ' 2.6', '2.6\n']), undefined);
});

test('a version is one digit, a dot and one digit', () => {
  assert.deepEqual(parseApiVersion('2.6'), { major: 2, minor: 6 });
  for (const text of ['', '2', '2.10', 'v2.6', '2a6', '2.6 ']) assert.equal(parseApiVersion(text), undefined, text);
});

test('versions are ordered by major and minor number', () => {
  assert.ok(compareApiVersions('2.0', '2.6') < 0);
  assert.ok(compareApiVersions('3.0', '2.6') > 0);
  assert.equal(compareApiVersions('2.3', '2.3'), 0);
  assert.throws(() => compareApiVersions('2.3', 'new'), RangeError);
});

test('an attested agent is not downgraded', () => {
  assert.equal(mayChangeApiVersion('2.5', '2.2', 1), false);
  assert.equal(mayChangeApiVersion('2.5', '2.5', 1), false);
  assert.equal(mayChangeApiVersion('2.5', '2.6', 1), true);
  assert.equal(mayChangeApiVersion('2.5', '2.2', 0), true);
});

test("the agent's complaint about a version is recognised inside a longer text", () => {
  assert.equal(saysVersionNotSupported('API version not supported: v2.9'), true);
  assert.equal(saysVersionNotSupported('URI not supported'), false);
});
