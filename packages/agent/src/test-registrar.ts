import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { AgentRegistration } from '@keylime/api/agent/registration';
import { failure, success } from '@keylime/api/envelope';
import { authTag, encodeChallenge, makeCredential } from '@keylime/tpm/credential';
import { decodePublic, objectName } from '@keylime/tpm/public';

/** What an agent sent, and whether it opened the challenge. */
export type Registered = { readonly agentId: string; readonly body: AgentRegistration; activated: boolean };

export type TestRegistrar = {
  readonly port: number;
  readonly registered: readonly Registered[];
  /** Status codes to answer registrations with before any is taken. */
  readonly refusals: { status: number; retryAfter?: string }[];
  readonly close: () => Promise<void>;
};

/** A registrar for the agent's tests: it takes every identity, and only the challenge is real. */
export async function startTestRegistrar(tls?: {
  readonly cert: string;
  readonly key: string;
}): Promise<TestRegistrar> {
  const registered: Registered[] = [];
  const refusals: { status: number; retryAfter?: string }[] = [];
  const pending = new Map<string, { readonly tag: string; readonly record: Registered }>();

  const answer = (method: string, url: string, json: unknown) => {
    if (url === '/version') return success({ current_version: '2.6', supported_versions: ['2.5', '2.6'] });
    const agentId = /^\/v2\.6\/agents\/([\w.-]+)$/.exec(url)?.[1];
    if (agentId === undefined) return failure(404);
    if (method === 'POST') {
      const refusal = refusals.shift();
      if (refusal !== undefined) return failure(refusal.status, 'not this time');
      const body = json as AgentRegistration;
      const secret = randomBytes(32);
      const akName = objectName(decodePublic(Buffer.from(body.aik_tpm, 'base64')));
      const ek = decodePublic(Buffer.from(body.ek_tpm, 'base64'));
      const record = { agentId, body, activated: false };
      registered.push(record);
      pending.set(agentId, { tag: authTag(secret.toString('base64'), agentId), record });
      return success({ blob: encodeChallenge(makeCredential({ ek, akName, secret })).toString('base64') });
    }
    const open = pending.get(agentId);
    if (open === undefined || open.tag !== (json as { auth_tag: string }).auth_tag) return failure(400, 'Auth tag');
    open.record.activated = true;
    return success({});
  };

  const server: Server = (tls ? createTlsServer(tls) : createServer()) as Server;
  server.on('request', async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const [next] = refusals;
    const reply = answer(request.method ?? '', request.url ?? '', text === '' ? undefined : JSON.parse(text));
    response.statusCode = reply.code;
    if (reply.code >= 400 && next?.retryAfter !== undefined) response.setHeader('retry-after', next.retryAfter);
    response.end(JSON.stringify(reply));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    registered,
    refusals,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
