import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps, type Server, type ServerOptions } from 'node:https';
import { type AddressInfo, createServer as createTcp } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import {
  type TestIdentity,
  testAgentIdentity,
  testCa,
  testStockAgentIdentity,
} from '@keylime/testing/test-certificates';
import { type AgentClientsOptions, openAgentClients } from './http-agent-client.ts';
import { HttpClientError, type HttpClientErrorCode } from './http-client-error.ts';

const ca = await testCa();
const verifier = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
const agent = await testAgentIdentity('agent-1');
const DAY_MS = 86_400_000;
const GET = { method: 'GET', path: '/version' } as const;

const failure =
  (code: HttpClientErrorCode, words = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof HttpClientError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  };

type FakeAgent = {
  readonly port: number;
  readonly server: Server;
  readonly requests: () => number;
  readonly sockets: TLSSocket[];
};

/** An agent as the existing ones serve: a client certificate of the CA is required. */
async function serve(
  t: TestContext,
  identity: TestIdentity = agent,
  options: ServerOptions & { readonly host?: string; readonly handler?: RequestListener } = {},
): Promise<FakeAgent> {
  let requests = 0;
  const sockets: TLSSocket[] = [];
  const { handler, host = '127.0.0.1', ...rest } = options;
  const server = createHttps(
    { cert: identity.certPem, key: identity.keyPem, ca: ca.certPem, requestCert: true, ...rest },
    (request, reply) => {
      requests += 1;
      if (handler) handler(request, reply);
      else reply.end('{}');
    },
  );
  server.on('secureConnection', (socket) => sockets.push(socket));
  server.listen(0, host);
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { port: (server.address() as AddressInfo).port, server, requests: () => requests, sockets };
}

function family(t: TestContext, options: Partial<AgentClientsOptions> = {}) {
  const opened = openAgentClients({
    clientCertificate: verifier,
    connectTimeoutMs: 2_000,
    headersTimeoutMs: 2_000,
    bodyTimeoutMs: 2_000,
    maxResponseBytes: 100_000,
    keepAliveMs: 10_000,
    maxIdleConnections: 10,
    ...options,
  });
  t.after(() => opened.close());
  return opened;
}

const at = (port: number, pinnedCertificatePem: string | undefined = agent.certPem, host = '127.0.0.1') => ({
  host,
  port,
  pinnedCertificatePem,
});

test('an agent that shows the registered certificate is asked, over TLS 1.2 and 1.3', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port, sockets } = await serve(t, agent, { maxVersion });
    assert.equal((await family(t).open(at(port)).request(GET)).code, 200);
    assert.equal(sockets[0]?.getProtocol(), maxVersion);
    assert.equal(sockets[0]?.authorized, true);
  }
});

test('a stock agent, whose certificate has serial number 0 and a signature that does not verify, is asked', async (t) => {
  const stock = await testStockAgentIdentity('agent-1');
  const { port } = await serve(t, stock);
  assert.equal((await family(t).open(at(port, stock.certPem)).request(GET)).code, 200);
});

test('an impostor gets no request, whoever issued its certificate', async (t) => {
  const issued = await ca.issue({ commonNames: ['agent-1'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  for (const [what, impostor, pinned] of [
    ['same name, self-signed', await testAgentIdentity('agent-1'), agent],
    ['certificate of the trusted CA', issued, agent],
    [
      'other certificate of the CA that issued the pinned one',
      await ca.issue({ commonNames: ['agent-1'], names: ['127.0.0.1'] }),
      issued,
    ],
  ] as const) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { port, requests } = await serve(t, impostor, { maxVersion });
      await assert.rejects(
        family(t)
          .open(at(port, pinned.certPem))
          .request({ method: 'POST', path: '/v2.6/keys/vkey', json: { encrypted_key: 'secret' } }),
        failure('pinned_certificate_mismatch', /^https:\/\/127\.0\.0\.1:\d+: it shows another certificate/),
        what,
      );
      assert.equal(requests(), 0, what);
    }
  }
});

test('an impostor does not get in with the session of a connection that was refused', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port, requests } = await serve(t, await testAgentIdentity('agent-1'), { maxVersion });
    const client = family(t).open(at(port));
    for (let count = 0; count < 3; count++) {
      await assert.rejects(client.request(GET), failure('pinned_certificate_mismatch'), maxVersion);
    }
    assert.equal(requests(), 0);
  }
});

test('an impostor that resumes nothing of ours is still found out after a good connection', async (t) => {
  const first = await serve(t);
  const client = family(t, { keepAliveMs: 0 }).open(at(first.port));
  await client.request(GET);
  first.server.close();
  first.server.closeAllConnections();
  await once(first.server, 'close');
  const impostor = createHttps({ cert: verifier.certPem, key: verifier.keyPem }, (_, reply) => void reply.end());
  impostor.listen(first.port, '127.0.0.1');
  await once(impostor, 'listening');
  t.after(() => impostor.close());
  await assert.rejects(client.request(GET), failure('pinned_certificate_mismatch'));
});

test('a registered certificate that is out of date is refused before a connection is made', async (t) => {
  const old = await testAgentIdentity('agent-1', {
    notBefore: new Date(Date.now() - 2 * DAY_MS),
    notAfter: new Date(Date.now() - DAY_MS),
  });
  const early = await testAgentIdentity('agent-1', {
    notBefore: new Date(Date.now() + DAY_MS),
    notAfter: new Date(Date.now() + 2 * DAY_MS),
  });
  for (const identity of [old, early]) {
    const { port, sockets } = await serve(t, identity);
    await assert.rejects(
      family(t).open(at(port, identity.certPem)).request(GET),
      failure('certificate_expired', /valid from .* to .*enrol the agent again/),
    );
    assert.equal(sockets.length, 0);
  }
});

test('an agent that refuses our client certificate is reported so', async (t) => {
  const foreign = await (await testCa('Foreign CA')).issue({ commonNames: ['client'], purpose: 'clientAuth' });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port } = await serve(t, agent, { maxVersion });
    await assert.rejects(
      family(t, { clientCertificate: undefined }).open(at(port)).request(GET),
      failure('client_certificate_refused'),
    );
    await assert.rejects(
      family(t, { clientCertificate: foreign }).open(at(port)).request(GET),
      (error: unknown) =>
        error instanceof HttpClientError && ['client_certificate_refused', 'connection_closed'].includes(error.code),
    );
  }
});

test('a connection is used again, and a new one resumes the session of the last', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port, sockets } = await serve(t, agent, { maxVersion });
    const kept = family(t).open(at(port));
    for (let count = 0; count < 3; count++) await kept.request(GET);
    assert.equal(sockets.length, 1);
    await kept.close();
    await kept.request(GET);
    assert.equal(sockets.length, 2);
    assert.equal(sockets[1]?.isSessionReused(), true, maxVersion);
  }
});

test('a changed client certificate is shown from the next connection on, without the session of the old one', async (t) => {
  const renewed = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const { port, sockets } = await serve(t, agent, { maxVersion });
    const clients = family(t, { keepAliveMs: 0 });
    const client = clients.open(at(port));
    await client.request(GET);
    const shown = () => sockets.at(-1)?.getPeerX509Certificate()?.serialNumber;
    const first = shown();
    clients.changeCertificate(renewed);
    await client.request(GET);
    assert.equal(sockets.at(-1)?.isSessionReused(), false, maxVersion);
    assert.notEqual(shown(), first, maxVersion);
    await client.request(GET);
    assert.equal(sockets.at(-1)?.isSessionReused(), true, maxVersion);
  }
});

test('a server that ends a handshake with a session is asked without one', async (t) => {
  const { port, server, sockets } = await serve(t, agent, { maxVersion: 'TLSv1.2', secureOptions: 0x4000 });
  // Without tickets the server looks sessions up; failing there ends the handshake, as servers without a context do.
  let refused = 0;
  const known = new Set<string>();
  server.on('newSession', (id: Buffer, _data, stored) => {
    known.add(id.toString('hex'));
    stored();
  });
  server.on('resumeSession', (id: Buffer, found) => {
    // A client without a session sends a random id.
    if (!known.has(id.toString('hex'))) return found(null, null);
    refused += 1;
    return found(new Error('session id context uninitialized'), null);
  });
  const client = family(t).open(at(port));
  await client.request(GET);
  for (let count = 0; count < 2; count++) {
    await client.close();
    assert.equal((await client.request(GET)).code, 200);
  }
  assert.equal(refused, 1);
  assert.equal(sockets.filter((socket) => socket.isSessionReused()).length, 0);
});

test('no more connections are kept than allowed, and a place that becomes free is taken', async (t) => {
  const agents = family(t, { maxIdleConnections: 2 });
  const servers = await Promise.all([1, 2, 3].map(() => serve(t)));
  const clients = servers.map(({ port }) => agents.open(at(port)));
  for (let round = 0; round < 2; round++) for (const client of clients) await client.request(GET);
  assert.equal(agents.connectionCount(), 2);
  assert.deepEqual(
    servers.map(({ sockets }) => sockets.length),
    [1, 1, 2],
  );
  await clients[0]?.close();
  for (let round = 0; round < 2; round++) await clients[2]?.request(GET);
  assert.equal(agents.connectionCount(), 2);
  assert.equal(servers[2]?.sockets.length, 3);
});

test('connections in use are not counted out', async (t) => {
  const agents = family(t, { maxIdleConnections: 1 });
  const all = Promise.withResolvers<void>();
  let waiting = 0;
  const handler: RequestListener = async (_, reply) => {
    waiting += 1;
    if (waiting === 3) all.resolve();
    await all.promise;
    reply.end('{}');
  };
  const servers = await Promise.all([1, 2, 3].map(() => serve(t, agent, { handler })));
  const answers = await Promise.all(servers.map(({ port }) => agents.open(at(port)).request(GET)));
  assert.deepEqual(
    answers.map((answer) => answer.code),
    [200, 200, 200],
  );
  assert.equal(agents.connectionCount(), 1);
});

test('a kept connection that the agent closed is replaced without an error', async (t) => {
  const { port, sockets } = await serve(t);
  const agents = family(t);
  const client = agents.open(at(port));
  await client.request(GET);
  const closed = once(sockets[0] as TLSSocket, 'close');
  sockets[0]?.end();
  await closed;
  assert.equal((await client.request(GET)).code, 200);
  assert.equal(sockets.length, 2);
});

test('a GET is repeated once when the kept connection ends under it, a POST is not', async (t) => {
  const fallen = new Set<unknown>();
  const handler: RequestListener = (request, reply) => {
    if (request.headers['x-fall'] && !fallen.has(request.headers['x-fall'])) {
      fallen.add(request.headers['x-fall']);
      request.socket.destroy();
    } else reply.end('{}');
  };
  const { port } = await serve(t, agent, { handler });
  const client = family(t).open(at(port));
  await client.request(GET);
  assert.equal((await client.request({ ...GET, headers: { 'x-fall': 'get' } })).code, 200);
  await assert.rejects(
    client.request({ method: 'POST', path: '/', json: {}, headers: { 'x-fall': 'post' } }),
    failure('connection_closed'),
  );
  await client.close();
  await assert.rejects(
    client.request({ ...GET, headers: { 'x-fall': 'first on a new connection' } }),
    failure('connection_closed'),
  );
});

test('an IPv6 agent is asked', async (t) => {
  const seen: (string | undefined)[] = [];
  const handler: RequestListener = (request, reply) => {
    seen.push(request.headers.host);
    reply.end('{}');
  };
  const { port } = await serve(t, agent, { handler, host: '::1' });
  assert.equal(
    (
      await family(t)
        .open(at(port, agent.certPem, '::1'))
        .request(GET)
    ).code,
    200,
  );
  assert.equal(
    (
      await family(t)
        .open(at(port, agent.certPem, '[::1]'))
        .request(GET)
    ).code,
    200,
  );
  assert.deepEqual(seen, [`[::1]:${port}`, `[::1]:${port}`]);
});

test('without a certificate the agent is asked over plain HTTP, and only then', async (t) => {
  const plain = createHttp((_, reply) => void reply.end('plain'));
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  t.after(() => {
    plain.close();
    plain.closeAllConnections();
  });
  const { port } = plain.address() as AddressInfo;
  const agents = family(t);
  const answer = await agents.open({ host: '127.0.0.1', port, pinnedCertificatePem: undefined }).request(GET);
  assert.equal(answer.body.toString(), 'plain');
  await assert.rejects(agents.open(at(port)).request(GET), failure('tls_failed'));
});

test('an agent that accepts nothing, says nothing, or sends too much is given up', async (t) => {
  const silent = createTcp(() => {});
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const hasty = family(t, { connectTimeoutMs: 100, headersTimeoutMs: 100, maxResponseBytes: 100 });
  await assert.rejects(hasty.open(at(port)).request(GET), failure('connect_timeout', /100 ms/));
  const mute = await serve(t, agent, { handler: () => {} });
  await assert.rejects(hasty.open(at(mute.port)).request(GET), failure('headers_timeout', /100 ms/));
  const chatty = await serve(t, agent, { handler: (_, reply) => void reply.end('x'.repeat(101)) });
  await assert.rejects(hasty.open(at(chatty.port)).request(GET), failure('response_too_large'));
  const { port: free } = await serve(t);
  assert.equal((await hasty.open(at(free)).request(GET)).code, 200);
});

test('a redirect of an agent is not followed', async (t) => {
  const other = await serve(t);
  const { port } = await serve(t, agent, {
    handler: (_, reply) => void reply.writeHead(302, { location: `https://127.0.0.1:${other.port}/` }).end(),
  });
  assert.equal((await family(t).open(at(port)).request(GET)).code, 302);
  assert.equal(other.requests(), 0);
});

test('contact data that is no host, or no certificate, opens no client', (t) => {
  const agents = family(t);
  for (const host of ['', 'x/y', 'user@host', '127.0.0.1:22']) {
    assert.throws(() => agents.open(at(9002, agent.certPem, host)), failure('invalid_endpoint'));
  }
  for (const pem of ['', 'disabled', 'nothing']) {
    assert.throws(() => agents.open(at(9002, pem)), failure('invalid_endpoint', /registered certificate/));
  }
});

test('a closed family asks nobody', async (t) => {
  const { port } = await serve(t);
  const agents = family(t);
  const client = agents.open(at(port));
  await client.request(GET);
  await agents.close();
  assert.equal(agents.connectionCount(), 0);
  await assert.rejects(client.request(GET), failure('client_closed'));
});
