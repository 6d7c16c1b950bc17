import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRevocationNotice } from './revocation-notice.ts';

/** As the existing verifier writes it (spec 06 section 4.1). */
const STOCK =
  '{"type": "revocation", "ip": "10.1.2.3", "agent_id": "7c1f", "port": 9002, "tpm_policy": "{\\"mask\\": \\"0x408400\\"}", ' +
  '"meta_data": "{\\"cert_serial\\": 3, \\"subject\\": \\"OU=53\\"}", "event_time": "Tue Aug  4 10:15:03 2026", ' +
  '"event_id": "ima.validation.ima-ng.not_in_allowlist", "severity_label": "emergency", "context": "{}"}';

const AT_MS = Date.UTC(2026, 7, 4, 10, 15, 3);

test('a notice of the existing verifier: its text is its id, and its local time is known as such', () => {
  const notice = parseRevocationNotice(STOCK);
  assert.ok(notice);
  assert.match(notice.id, /^[0-9a-f]{64}$/);
  const { type, agentId, address, certificate, happened } = notice;
  assert.deepEqual(
    [type, agentId, address, certificate, happened],
    ['revocation', '7c1f', '10.1.2.3', { serial: '3', subject: 'OU=53' }, { atMs: AT_MS, clock: 'verifier' }],
  );
});

test('a notice of our verifier has an id and a time', () => {
  const notice = parseRevocationNotice(
    JSON.stringify({ type: 'comm_error', notification_id: 'n1', event_time_utc: '2026-08-04T10:15:03.000Z' }),
  );
  assert.deepEqual([notice?.id, notice?.happened, notice?.type], ['n1', { atMs: AT_MS, clock: 'utc' }, 'comm_error']);
});

test('a serial number that is larger than a JavaScript number keeps exactly is kept exactly', () => {
  const serial = '158456325028528675187087900671';
  const metaData = (text: string) =>
    parseRevocationNotice(JSON.stringify({ type: 'x', meta_data: text }))?.certificate?.serial;
  assert.equal(metaData(`{"cert_serial": ${serial}, "subject": "x"}`), serial);
  for (const odd of [
    '{"cert_serial": "3", "subject": "x"}',
    '{"cert_serial": -3, "subject": "x"}',
    '{"cert_serial": 3}',
    '{}',
    'x',
  ]) {
    assert.equal(metaData(odd), undefined, odd);
  }
});

test('[MUST] what is no address is not taken for one', () => {
  const address = (ip: unknown) => parseRevocationNotice(JSON.stringify({ type: 'x', ip }))?.address;
  assert.equal(address('fd00::1'), 'fd00::1');
  for (const odd of ['host.example', '10.0.0.0/8', '10.1.2.3; drop', 'fe80::1%eth0', '', 1, null]) {
    assert.equal(address(odd), undefined);
  }
});

test('what is no notice is none', () => {
  for (const text of ['', 'x', '[]', 'null', '{}', '{"type": 1}']) assert.equal(parseRevocationNotice(text), undefined);
});
