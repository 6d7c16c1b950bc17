import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  documentOf,
  parseResourceAnswer,
  parseResourceRequest,
  problemDocument,
  problemText,
  resource,
  resourceRequest,
  sessionProblemDocument,
} from './push-document.ts';

test('a request that was built is read back', () => {
  const body = resourceRequest('session', { agent_id: 'a' }, 'some-id');
  assert.deepEqual(parseResourceRequest(body), {
    ok: true,
    value: { type: 'session', id: 'some-id', attributes: { agent_id: 'a' } },
  });
});

test('a request that is no JSON:API document is refused, and the reason names what is wrong', () => {
  const cases: readonly (readonly [body: unknown, RegExp])[] = [
    [undefined, /body must be a JSON object/],
    [[], /body must be a JSON object/],
    [{}, /data must be one resource/],
    [{ data: [] }, /data must be one resource/],
    [{ data: { type: 'session', attributes: { a: 1 } }, more: 1 }, /unknown member: "more"/],
    [{ data: { type: 'session', attributes: { a: 1 }, relationships: {} } }, /unknown member: "relationships"/],
    [{ data: { attributes: { a: 1 } } }, /data\.type/],
    [{ data: { type: 'session', id: 7, attributes: { a: 1 } } }, /data\.id/],
    [{ data: { type: 'session' } }, /data\.attributes/],
    [{ data: { type: 'session', attributes: {} } }, /data\.attributes/],
    [{ data: { type: 'session', attributes: { a: null } } }, /attribute a is null/],
    [{ data: { type: 'session', attributes: { '-a': 1 } } }, /a name that JSON:API does not allow/],
  ];
  for (const [body, problem] of cases) {
    const parsed = parseResourceRequest(body);
    assert.match(parsed.ok ? 'accepted' : parsed.problem, problem);
  }
});

test('any JSON is read or refused, and nothing is thrown', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => {
      assert.equal(typeof parseResourceRequest(json).ok, 'boolean');
      parseResourceAnswer(json);
      problemText(json);
    }),
  );
});

test('an answer is read with and without what existing verifiers leave out', () => {
  const full = documentOf(resource('attestation', '7', { stage: 'x' }, '/self'), { self: '/self', meta: { n: 1 } });
  assert.deepEqual(parseResourceAnswer(full), {
    type: 'attestation',
    id: '7',
    attributes: { stage: 'x' },
    meta: { n: 1 },
  });
  const bare = { data: { type: 'attestation', attributes: { stage: null } } };
  assert.deepEqual(parseResourceAnswer(bare), { type: 'attestation', attributes: { stage: null }, meta: {} });
});

test('errors of either kind give their text to people', () => {
  const problem = problemDocument({ status: 422, code: 'invalid_resource_data', detail: 'why', pointer: '/data' });
  assert.deepEqual(problem.errors[0], {
    status: '422',
    code: 'invalid_resource_data',
    detail: 'why',
    source: { pointer: '/data' },
  });
  assert.equal(problemText(problem), 'invalid_resource_data: why');
  assert.deepEqual(sessionProblemDocument(404, 'Session not found').errors[0], {
    status: '404',
    title: 'Not Found',
    detail: 'Session not found',
  });
  assert.equal(problemText(sessionProblemDocument(404, 'Session not found')), 'Session not found');
  assert.equal(problemText({}), undefined);
});
