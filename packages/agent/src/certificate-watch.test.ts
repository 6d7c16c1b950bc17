import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { watchCertificate } from './certificate-watch.ts';

const DAY_MS = 86_400_000;
const notAfter = new Date('2027-01-01T00:00:00Z');

function watching(renew: () => Promise<Date>) {
  const lines: string[] = [];
  const clock = { now: 0 };
  const log = openLog({ name: 'x', destination: { write: (line) => lines.push(line) } });
  const watch = watchCertificate({ notAfter, renew, log, now: () => clock.now });
  const checkAt = async (ms: number) => {
    clock.now = notAfter.getTime() + ms;
    await watch.check();
    return lines.splice(0).map((line) => / - (WARNING|ERROR) - /.exec(line)?.[1]);
  };
  return { checkAt, close: watch.close };
}

test('a certificate is renewed once, 30 days before its end', async () => {
  let renewals = 0;
  const { checkAt, close } = watching(async () => {
    renewals++;
    return new Date(notAfter.getTime() + 335 * DAY_MS);
  });
  assert.deepEqual(await checkAt(-31 * DAY_MS), []);
  assert.equal(renewals, 0);
  assert.deepEqual(await checkAt(-30 * DAY_MS), []);
  assert.deepEqual(await checkAt(-29 * DAY_MS), []);
  assert.equal(renewals, 1);
  close();
});

test('a renewal that fails is told and tried again', async () => {
  let renewals = 0;
  const { checkAt, close } = watching(async () => {
    renewals++;
    throw new Error('the registrar is away');
  });
  assert.deepEqual(await checkAt(-29 * DAY_MS), ['ERROR']);
  assert.deepEqual(await checkAt(-29 * DAY_MS + 1), ['ERROR']);
  assert.equal(renewals, 2);
  close();
});

test('a certificate of somebody else is asked for once a day in its last 30 days, until there is another', async () => {
  let end = notAfter;
  const { checkAt, close } = watching(async () => end);
  assert.deepEqual(await checkAt(-29 * DAY_MS), ['WARNING']);
  assert.deepEqual(await checkAt(-29 * DAY_MS + 3_600_000), []);
  assert.deepEqual(await checkAt(-28 * DAY_MS), ['WARNING']);
  assert.deepEqual(await checkAt(DAY_MS), ['WARNING']);
  end = new Date(notAfter.getTime() + 90 * DAY_MS);
  assert.deepEqual(await checkAt(2 * DAY_MS), []);
  close();
});
