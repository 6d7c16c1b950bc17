import { once } from 'node:events';
import { createServer } from 'node:https';

/** A notification as it arrived. */
export type Received = { readonly atMs: number; readonly message: { readonly [key: string]: unknown } };

export type WebhookReceiver = {
  /** What has arrived, oldest first. */
  readonly received: readonly Received[];
  readonly stop: () => Promise<void>;
};

/** Receives what the verifiers notify, over HTTPS with the certificate of the services. */
export async function startWebhookReceiver(
  tls: { readonly cert: string; readonly key: string },
  port: number,
): Promise<WebhookReceiver> {
  const received: Received[] = [];
  const server = createServer(tls, (request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const atMs = Date.now();
      const { msg } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { msg: string };
      received.push({ atMs, message: JSON.parse(msg) as Received['message'] });
      response.writeHead(200).end();
    });
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    received,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
