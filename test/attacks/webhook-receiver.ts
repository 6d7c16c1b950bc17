import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createPlainServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestIdentity } from '@keylime/testing/test-certificates';

export type Received = { readonly body: string; readonly delivery: string; readonly atMs: number };

/** A webhook receiver on `port`; it answers with `code` for as long as that is set. */
export async function webhookReceiver(t: TestContext, port: number, tls?: TestIdentity) {
  const received: Received[] = [];
  const state = { code: 200, connections: 0 };
  const take = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('utf8');
      received.push({ body, delivery: String(request.headers['keylime-delivery']), atMs: Date.now() });
      response.writeHead(state.code).end();
    });
  };
  const server = tls ? createServer({ cert: tls.certPem, key: tls.keyPem }, take) : createPlainServer(take);
  server.on('connection', () => state.connections++);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(stop);
  const arrived = async (count: number) => {
    for (let n = 0; received.length < count && n < 1500; n++) await sleep(10);
    assert.ok(received.length >= count, `${received.length} of ${count} notifications arrived`);
    return received;
  };
  return { received, state, arrived, stop };
}

/** What is signed in a notification. */
export const messageOf = ({ body }: Received) => JSON.parse(JSON.parse(body).msg) as Record<string, unknown>;
