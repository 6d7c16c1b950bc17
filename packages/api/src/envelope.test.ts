import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure, parseEnvelope, permissionErrors, success } from './envelope.ts';

test('an answer with data says Success', () => {
  assert.deepEqual(success({ uuids: [] }), { code: 200, status: 'Success', results: { uuids: [] } });
  assert.deepEqual(success({}, 201), { code: 201, status: 'Created', results: {} });
});

test('an error keeps an empty object as results, as the Rust registrar client requires', () => {
  assert.deepEqual(failure(404, "Agent with ID 'a' not found"), {
    code: 404,
    status: "Agent with ID 'a' not found",
    results: {},
  });
});

test('a permission error has the shape of the permission layer and no envelope', () => {
  const body = permissionErrors(403, 'Action list_agents requires admin authentication (mTLS certificate)');
  assert.equal(
    JSON.stringify(body),
    '{"errors":[{"status":"403","title":"Forbidden","detail":"Action list_agents requires admin authentication (mTLS certificate)"}]}',
  );
});

test("an agent's null results are an envelope", () => {
  assert.deepEqual(parseEnvelope({ code: 200, status: 'Success', results: null }), {
    code: 200,
    status: 'Success',
    results: null,
  });
});

test('anything else is no envelope', () => {
  for (const value of [
    null,
    [],
    'x',
    4,
    {},
    { code: '200', status: 'Success' },
    { code: 1.5, status: '' },
    { code: 200 },
  ])
    assert.equal(parseEnvelope(value), undefined, JSON.stringify(value));
});
