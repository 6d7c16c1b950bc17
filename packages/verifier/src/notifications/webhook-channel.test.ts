import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '@keylime/service/database';
import { freePort } from '@keylime/service/free-port';
import { openServerClient } from '@keylime/service/http-client';
import { migrate } from '@keylime/service/migrate';
import { writeGroup } from '@keylime/service/write-group';
import { fakeClock } from '@keylime/testing/fake-clock';
import { verifierMigrations } from '../migrations.ts';
import type { VerifierTables } from '../tables.ts';
import { openNotifier } from './notifier.ts';
import { LONGEST_WAIT_MS, outboxRow, sqlOutbox } from './outbox.ts';
import { deliverToWebhook } from './webhook-channel.ts';

const OUTAGE_MS = 600_000;

test('[MUST] a receiver that is down for ten minutes gets everything in order once it is back, over real sockets', async (t) => {
  const workDir = await mkdtemp(path.join(tmpdir(), 'keylime-outage-'));
  t.after(() => rm(workDir, { recursive: true }));
  const db = await openDatabase<VerifierTables>({ url: 'sqlite', workDir, program: 'verifier' });
  await migrate(db, { program: 'verifier', migrations: verifierMigrations });
  const group = writeGroup(db, { maxDelayMs: 1 });
  const clock = fakeClock();
  const bodies = ['first', 'second', 'third'].map((text) => JSON.stringify({ msg: text, signature: '' }));
  for (const body of bodies) {
    const delivery = {
      notificationId: body,
      agentId: 'a',
      channel: 'webhook',
      body,
      createdAtMs: clock.now(),
    } as const;
    await db.insertInto('outbox').values(outboxRow(delivery, 'v')).execute();
  }
  const port = await freePort();
  const client = openServerClient({ baseUrl: `http://127.0.0.1:${port}`, timeoutMs: 5000 });
  const post = async (json: unknown, headers: Readonly<Record<string, string>>) =>
    (await client.request({ method: 'POST', path: '/', json, headers })).code;
  let settled = Promise.withResolvers<number | undefined>();
  const waits: number[] = [];
  const notifier = openNotifier(
    sqlOutbox(db, group.submit, 'v', { channel: 'webhook', to: 'receiver' }),
    (delivery) => deliverToWebhook(post, delivery),
    { concurrency: 4, firstWaitMs: 1000, maxWaitMs: LONGEST_WAIT_MS, giveUpAfterAttempts: 10_080 },
    clock,
    {
      delivered: () => settled.resolve(undefined),
      failed: (_, __, nextAttemptAtMs) => settled.resolve(nextAttemptAtMs),
      fault: (error) => settled.reject(error),
    },
  );
  /** What came of one attempt: when the next one is due, or `undefined` for a success. */
  const outcome = async () => {
    const result = await settled.promise;
    settled = Promise.withResolvers();
    return result;
  };

  notifier.wake();
  const start = clock.now();
  for (let next = await outcome(); next !== undefined && clock.now() - start < OUTAGE_MS; next = await outcome()) {
    waits.push(next - clock.now());
    // The notifier's own timer is set a moment after its report.
    while (clock.waiting() === 0) await new Promise(setImmediate);
    await clock.advance(next - clock.now());
  }
  assert.deepEqual(waits.slice(0, 7), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]);
  assert.ok(waits.slice(6).every((wait) => wait === LONGEST_WAIT_MS));

  const received: string[] = [];
  const server = createServer(async (request, response) => {
    received.push(Buffer.concat(await request.toArray()).toString());
    response.writeHead(200).end();
  }).listen(port, '127.0.0.1');
  await once(server, 'listening');
  while (clock.waiting() === 0) await new Promise(setImmediate);
  await clock.advance(LONGEST_WAIT_MS);
  while (received.length < bodies.length) await outcome();
  await notifier.close();
  assert.deepEqual(received, bodies);
  assert.deepEqual(await db.selectFrom('outbox').selectAll().execute(), []);
  await client.close();
  server.close();
  await group.close();
  await db.destroy();
});
