import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { recordImaNg } from './record.ts';

test('a recorded file is the line and the template hashes of the known-answer vector E1', () => {
  const record = recordImaNg('/opt/demo/hello', 'sha256', digest('sha256', Buffer.from('hello\n')));
  assert.equal(
    record.line,
    '10 ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086 ima-ng sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 /opt/demo/hello\n',
  );
  assert.equal(
    record.extendValue('sha256').toString('hex'),
    '82844ce0522ab8c9721d25e9563cef7dd6979711a634bd112c502b8a8887cd09',
  );
});
