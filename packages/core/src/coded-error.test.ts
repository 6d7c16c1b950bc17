import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodedError, codeOf } from './coded-error.ts';

class DoorError extends CodedError<'door_locked' | 'door_missing'> {}

test('an error has the name of its class, a code, a message and a cause', () => {
  const cause = new Error('no key');
  const error = new DoorError('door_locked', 'The door is locked: ask for the key.', { cause });
  assert(error instanceof Error && error instanceof DoorError);
  assert.deepEqual([error.name, error.code, error.cause], ['DoorError', 'door_locked', cause]);
  assert.equal(String(error), 'DoorError: The door is locked: ask for the key.');
});

test('a code is read from whatever was thrown', () => {
  assert.equal(codeOf(new DoorError('door_missing', '')), 'door_missing');
  assert.equal(codeOf(Object.assign(new Error(), { code: 'ENOENT' })), 'ENOENT');
  for (const thrown of [
    new Error('no code'),
    Object.assign(new Error(), { code: 5 }),
    { code: 'ENOENT' },
    'ENOENT',
    null,
  ]) {
    assert.equal(codeOf(thrown), undefined);
  }
});
