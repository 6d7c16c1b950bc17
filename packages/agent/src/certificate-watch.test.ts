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

test('a certificate is used to its end, with a warning a day in the last month, and then renewed once', async () => {
  let renewals = 0;
  const { checkAt, close } = watching(async () => {
    renewals++;
    return new Date(notAfter.getTime() + 365 * DAY_MS);
  });
  assert.deepEqual(await checkAt(-31 * DAY_MS), []);
  assert.deepEqual(await checkAt(-29 * DAY_MS), ['WARNING']);
  assert.deepEqual(await checkAt(-29 * DAY_MS + 3_600_000), []);
  assert.deepEqual(await checkAt(-28 * DAY_MS), ['WARNING']);
  assert.equal(renewals, 0);
  assert.deepEqual(await checkAt(1), ['WARNING']);
  assert.equal(renewals, 1);
  assert.deepEqual(await checkAt(DAY_MS), []);
  close();
});

test('a renewal that fails is told and tried again', async () => {
  let renewals = 0;
  const { checkAt, close } = watching(async () => {
    renewals++;
    throw new Error('the registrar is away');
  });
  assert.deepEqual(await checkAt(1), ['ERROR']);
  assert.deepEqual(await checkAt(2), ['ERROR']);
  assert.equal(renewals, 2);
  close();
});
