import { once } from 'node:events';
import { createServer } from 'node:https';

/** A notification as it arrived. */
export type Received = { readonly atMs: number; readonly message: { readonly [key: string]: unknown } };

export type WebhookReceiver = {
  /** The next notification that has not been taken yet. */
  readonly next: () => Promise<Received>;
  readonly stop: () => Promise<void>;
};

/** Receives what the verifier notifies, over HTTPS with the certificate of the services. */
export async function startWebhookReceiver(
  tls: { readonly cert: string; readonly key: string },
  port: number,
): Promise<WebhookReceiver> {
  const received: Received[] = [];
  const waiting: ((one: Received) => void)[] = [];
  const server = createServer(tls, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const atMs = Date.now();
      const { msg } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { msg: string };
      const one = { atMs, message: JSON.parse(msg) as Received['message'] };
      response.writeHead(200).end();
      const taker = waiting.shift();
      if (taker === undefined) received.push(one);
      else taker(one);
    });
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    next: () => {
      const one = received.shift();
      return one === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(one);
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
