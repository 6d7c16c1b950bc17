import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Type } from 'typebox';
import { parseBinary, parseBySchema, parseKnownMembers, parsePushTime, pushTime } from './push-value.ts';

test('times have six digits and +00:00, and are read back', () => {
  assert.equal(pushTime(Date.UTC(2026, 2, 14, 9, 26, 53, 589)), '2026-03-14T09:26:53.589000+00:00');
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_000_000_000_000 }), (ms) => assert.equal(parsePushTime(pushTime(ms)), ms)),
  );
});

test('times of others: with Z, without a zone in UTC, Unix seconds as number or digits', () => {
  const ms = Date.UTC(2026, 2, 14, 6, 2, 11);
  const texts = ['2026-03-14T06:02:11Z', '2026-03-14T06:02:11', '2026-03-14T08:02:11.000000+02:00', `${ms / 1000}`];
  for (const text of texts) assert.equal(parsePushTime(text), ms, text);
  assert.equal(parsePushTime(ms / 1000), ms);
  for (const odd of ['', 'yesterday', '2026-03', '2026-13-01T00:00:00Z', -1, null, true, {}, undefined]) {
    assert.equal(parsePushTime(odd), undefined, JSON.stringify(odd));
  }
});

test('the last time is that of the year 9999: what is later could not be written', () => {
  const last = Date.UTC(9999, 11, 31, 23, 59, 59);
  assert.equal(parsePushTime(last / 1000), last);
  assert.equal(pushTime(last), '9999-12-31T23:59:59.000000+00:00');
  for (const late of [1e13, 1e300, Number.POSITIVE_INFINITY, '999999999999', '9999-12-31T23:59:59-01:00']) {
    assert.equal(parsePushTime(late), undefined, String(late));
  }
});

test('members that a schema does not name are left out, at every depth, and what was parsed is as it was', () => {
  const schema = Type.Object({
    list: Type.Array(Type.Object({ count: Type.Integer() })),
    maybe: Type.Optional(Type.Union([Type.Array(Type.String()), Type.Null()])),
  });
  const value = { list: [{ count: 1, more: 'x' }], maybe: null, other: {} };
  assert.deepEqual(parseKnownMembers(schema, value), { ok: true, value: { list: [{ count: 1 }], maybe: null } });
  assert.deepEqual(Object.keys(value), ['list', 'maybe', 'other']);
  assert.equal(parseKnownMembers(schema, { list: 1 }).ok, false);
});

test('binary fields are base64, else hex', () => {
  assert.deepEqual(parseBinary('AAEC'), Buffer.of(0, 1, 2));
  assert.deepEqual(parseBinary('0x0001'), Buffer.of(0, 1));
  assert.deepEqual(parseBinary('000102'), Buffer.of(0, 1, 2));
  assert.deepEqual(parseBinary('00010203'), Buffer.from('00010203', 'base64'));
  for (const odd of ['AAE', 'AA EC', '0x0', 'zz', 'AAEC\n']) assert.equal(parseBinary(odd), undefined, odd);
});

test('what does not fit its schema is named by a JSON pointer', () => {
  const schema = Type.Object({ list: Type.Array(Type.Object({ count: Type.Integer({ minimum: 0 }) })) });
  assert.deepEqual(parseBySchema(schema, { list: [{ count: 1 }], more: 1 }), {
    ok: true,
    value: { list: [{ count: 1 }], more: 1 },
  });
  const parsed = parseBySchema(schema, { list: [{ count: -1 }] });
  assert.deepEqual(parsed, { ok: false, problem: { pointer: '/list/0/count', problem: 'must be >= 0' } });
});
