import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isRetry, parseResponseCode, TpmError } from './response-code.ts';

const name = (value: number) => parseResponseCode(value).name;

test('codes have their names, and say what they are about', () => {
  assert.equal(name(0x100), 'TPM_RC_INITIALIZE');
  assert.equal(name(0x101), 'TPM_RC_FAILURE');
  assert.equal(name(0x143), 'TPM_RC_COMMAND_CODE');
  assert.equal(name(0x902), 'TPM_RC_OBJECT_MEMORY');
  assert.equal(name(0x903), 'TPM_RC_SESSION_MEMORY');
  assert.equal(name(0x922), 'TPM_RC_RETRY');
  assert.deepEqual(parseResponseCode(0x1d5), {
    value: 0x1d5,
    name: 'TPM_RC_SIZE',
    about: { kind: 'parameter', number: 1 },
  });
  assert.deepEqual(parseResponseCode(0x2d2).about, { kind: 'parameter', number: 2 });
  assert.deepEqual(parseResponseCode(0x18b), {
    value: 0x18b,
    name: 'TPM_RC_HANDLE',
    about: { kind: 'handle', number: 1 },
  });
  assert.deepEqual(parseResponseCode(0x98e), {
    value: 0x98e,
    name: 'TPM_RC_AUTH_FAIL',
    about: { kind: 'session', number: 1 },
  });
  assert.equal(name(0x9a2), 'TPM_RC_BAD_AUTH');
});

test('only three codes ask for the command again', () => {
  const retries = Array.from({ length: 0x1000 }, (_, value) => value).filter(isRetry);
  assert.deepEqual(retries, [0x908, 0x90a, 0x922]);
});

test('an error says command, name, code, place and what to do', () => {
  const error = new TpmError('PolicySecret', 0x9a2);
  assert.equal(error.code, 'TPM_RC_BAD_AUTH');
  assert.match(error.message, /^TPM2_PolicySecret: TPM_RC_BAD_AUTH \(0x9a2\) for session 1: .*tpm_ownerpassword/);
  assert.equal(new TpmError('Quote', 0xffff0).code.startsWith('TPM_RC_'), true);
});

test('every number is a response code of some name', () => {
  fc.assert(fc.property(fc.nat(0xffffffff), (value) => parseResponseCode(value).name.startsWith('TPM_RC_')));
});
