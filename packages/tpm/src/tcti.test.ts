import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTransport, parseTcti } from './tcti.ts';

test('the names of tpm2-tss are understood', () => {
  assert.deepEqual(parseTcti('device:/dev/tpmrm0'), { kind: 'device', path: '/dev/tpmrm0' });
  assert.deepEqual(parseTcti('swtpm:host=10.0.0.1,port=2400'), { kind: 'swtpm', host: '10.0.0.1', port: 2400 });
  assert.deepEqual(parseTcti('swtpm:path=/run/tpm.sock'), { kind: 'swtpm_unix', path: '/run/tpm.sock' });
  assert.deepEqual(parseTcti('mssim:'), { kind: 'mssim', host: 'localhost', port: 2321 });
  assert.deepEqual(parseTcti('swtpm'), { kind: 'swtpm', host: 'localhost', port: 2321 });
});

test('what is not understood is refused with the syntax', () => {
  for (const text of ['tpm0', 'swtpm:hots=x', 'swtpm:port=0', 'mssim:path=/x', 'mssim:port=70000', 'swtpm:port=1e3']) {
    assert.throws(() => parseTcti(text), { code: 'tcti_malformed', message: /swtpm:host=H,port=P/ });
  }
  assert.throws(() => parseTcti('tabrmd:bus_type=system'), {
    code: 'tcti_unsupported',
    message: /device:\/dev\/tpmrm0/,
  });
});

test('an emulator that is not running and a device that is not there say what to do', async () => {
  await assert.rejects(openTransport('swtpm:host=127.0.0.1,port=1'), {
    code: 'tpm_emulator_unreachable',
    message: /127\.0\.0\.1:1 is not running .*start it/,
  });
  await assert.rejects(openTransport('mssim:host=127.0.0.1,port=1'), { code: 'tpm_emulator_unreachable' });
  await assert.rejects(openTransport('swtpm:path=/nonexistent/socket'), { code: 'tpm_emulator_unreachable' });
  await assert.rejects(openTransport('device:/nonexistent/tpm'), { code: 'tpm_device_missing', message: /TCTI=swtpm/ });
});
