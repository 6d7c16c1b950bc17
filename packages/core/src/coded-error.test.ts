import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodedError } from './coded-error.ts';

class DoorError extends CodedError<'door_locked' | 'door_missing'> {}

test('an error has the name of its class, a code, a message and a cause', () => {
  const cause = new Error('no key');
  const error = new DoorError('door_locked', 'The door is locked: ask for the key.', { cause });
  assert(error instanceof Error && error instanceof DoorError);
  assert.deepEqual([error.name, error.code, error.cause], ['DoorError', 'door_locked', cause]);
  assert.equal(String(error), 'DoorError: The door is locked: ask for the key.');
});
