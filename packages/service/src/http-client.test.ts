import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp, type RequestListener, type Server } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server as TcpServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { testCa } from '@keylime/testing/test-certificates';
import { action } from './http-authorization.ts';
import { openServerClient, type ServerClientOptions } from './http-client.ts';
import { HttpClientError, type HttpClientErrorCode } from './http-client-error.ts';
import { authority } from './http-endpoint.ts';
import { listenOn } from './http-listen.ts';
import { buildHttpServer } from './http-server.ts';
import { openLog } from './log.ts';

const ca = await testCa();
const foreignCa = await testCa('Foreign CA');
const serverIdentity = await ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['127.0.0.1'] });
const admin = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
const DAY_MS = 86_400_000;

const failure =
  (code: HttpClientErrorCode, words = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof HttpClientError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  };

async function listen(t: TestContext, server: Server | TcpServer): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

const tlsServer = (
  t: TestContext,
  identity = serverIdentity,
  handler: RequestListener = (_, reply) => void reply.end('{}'),
) => listen(t, createHttps({ cert: identity.certPem, key: identity.keyPem }, handler));

function client(t: TestContext, baseUrl: string, options: Partial<ServerClientOptions> = {}) {
  const opened = openServerClient({ baseUrl, caPems: [ca.certPem], timeoutMs: 5_000, ...options });
  t.after(() => opened.close());
  return opened;
}

test('our client, with its certificate, administers our server', async (t) => {
  const log = openLog({ name: 'test', destination: { write: () => {} } });
  const tls = { certPem: serverIdentity.certPem, keyPem: serverIdentity.keyPem, clientCaPems: [ca.certPem] };
  const app = buildHttpServer({ log, bodyLimitBytes: 1000, tls });
  t.after(() => app.close());
  app.post('/agents', { config: action('create_agent') }, async (request) => ({ got: request.body }));
  const { port } = await listenOn(app, { host: '127.0.0.1', port: 0 });
  const answer = await client(t, `https://127.0.0.1:${port}`, { clientCertificate: admin }).request({
    method: 'POST',
    path: '/agents',
    json: { a: 1 },
  });
  assert.equal(answer.code, 200);
  assert.deepEqual(JSON.parse(answer.body.toString()), { got: { a: 1 } });
  assert.equal((await client(t, `https://127.0.0.1:${port}`).request({ method: 'POST', path: '/agents' })).code, 403);
  const foreign = await foreignCa.issue({ commonNames: ['client'], purpose: 'clientAuth' });
  const stranger = client(t, `https://127.0.0.1:${port}`, { clientCertificate: foreign });
  await assert.rejects(
    stranger.request({ method: 'GET', path: '/agents' }),
    failure('connection_closed', /refused our client certificate/),
  );
});

test('a server of another CA is not believed, whatever the environment says', async (t) => {
  const port = await tlsServer(t, await foreignCa.issue({ commonNames: ['server'], names: ['127.0.0.1'] }));
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  t.after(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
  await assert.rejects(
    client(t, `https://127.0.0.1:${port}`).request({ method: 'GET', path: '/' }),
    failure('untrusted_certificate', /trusted CA/),
  );
});

test('a certificate for client authentication does not make a server', async (t) => {
  const port = await tlsServer(
    t,
    await ca.issue({ commonNames: ['server'], purpose: 'clientAuth', names: ['127.0.0.1'] }),
  );
  await assert.rejects(
    client(t, `https://127.0.0.1:${port}`).request({ method: 'GET', path: '/' }),
    failure('untrusted_certificate'),
  );
});

test('an expired server certificate is refused and called so', async (t) => {
  const dates = { notBefore: new Date(Date.now() - 2 * DAY_MS), notAfter: new Date(Date.now() - DAY_MS) };
  const port = await tlsServer(t, await ca.issue({ commonNames: ['server'], names: ['127.0.0.1'], ...dates }));
  await assert.rejects(
    client(t, `https://127.0.0.1:${port}`).request({ method: 'GET', path: '/' }),
    failure('certificate_expired'),
  );
});

test('the host name is checked unless the caller opts out', async (t) => {
  const port = await tlsServer(t, await ca.issue({ commonNames: ['server'], names: ['elsewhere'] }));
  const url = `https://127.0.0.1:${port}`;
  await assert.rejects(client(t, url).request({ method: 'GET', path: '/' }), failure('host_name_mismatch'));
  const lax = client(t, url, { checkHostName: false });
  assert.equal((await lax.request({ method: 'GET', path: '/' })).code, 200);
});

test('an https client without a CA is not opened', () => {
  for (const caPems of [undefined, [], ['']]) {
    assert.throws(() => openServerClient({ baseUrl: 'https://a:1', caPems, timeoutMs: 1 }), RangeError);
  }
});

test('a redirect is an answer and is not followed', async (t) => {
  let asked = 0;
  const port = await listen(
    t,
    createHttp((_, reply) => {
      asked += 1;
      reply.writeHead(307, { location: '/other' }).end();
    }),
  );
  const answer = await client(t, `http://127.0.0.1:${port}`).request({ method: 'GET', path: '/' });
  assert.equal(answer.code, 307);
  assert.equal(asked, 1);
});

test('a closed port is named with what to look at', async (t) => {
  const server = createTcp();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const url = `http://127.0.0.1:${port}`;
  await assert.rejects(
    client(t, url).request({ method: 'GET', path: '/' }),
    failure('connection_refused', new RegExp(`^${url}: nothing listens`)),
  );
});

test('a host that does not exist is named', async (t) => {
  await assert.rejects(
    client(t, 'http://nothing.invalid:80').request({ method: 'GET', path: '/' }),
    failure('name_not_found', /^http:\/\/nothing\.invalid:80: /),
  );
});

test('a server that accepts and says nothing, or stops halfway, is given up after the time of that step', async (t) => {
  const silent = await listen(
    t,
    createTcp(() => {}),
  );
  await assert.rejects(
    client(t, `http://127.0.0.1:${silent}`, { timeoutMs: 100 }).request({ method: 'GET', path: '/' }),
    failure('headers_timeout', /within 100 ms/),
  );
  await assert.rejects(
    client(t, `https://127.0.0.1:${silent}`, { timeoutMs: 100 }).request({ method: 'GET', path: '/' }),
    failure('connect_timeout'),
  );
  const stuck = await listen(
    t,
    createTcp((socket) => {
      // A byte now and then would keep a timer of inactivity alive for ever.
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n');
      const drip = setInterval(() => socket.write('x'), 20);
      socket.on('close', () => clearInterval(drip)).on('error', () => {});
    }),
  );
  await assert.rejects(
    client(t, `http://127.0.0.1:${stuck}`, { timeoutMs: 150 }).request({ method: 'GET', path: '/' }),
    failure('body_timeout', /150 ms/),
  );
});

test('an answer over the limit is given up, whether or not its length is announced', async (t) => {
  for (const headers of [{ 'content-length': '5000' }, { 'transfer-encoding': 'chunked' }]) {
    const port = await listen(
      t,
      createHttp((_, reply) => {
        reply.writeHead(200, headers);
        reply.end('x'.repeat(5000));
      }),
    );
    const limited = client(t, `http://127.0.0.1:${port}`, { maxResponseBytes: 1000 });
    await assert.rejects(limited.request({ method: 'GET', path: '/' }), failure('response_too_large', /1000 bytes/));
  }
});

test('what is no HTTP, or not the protocol asked for, is called so', async (t) => {
  const noise = await listen(
    t,
    createTcp((socket) => socket.on('error', () => {}).end('SSH-2.0-OpenSSH_9.2\r\n')),
  );
  await assert.rejects(
    client(t, `http://127.0.0.1:${noise}`).request({ method: 'GET', path: '/' }),
    failure('malformed_response'),
  );
  await assert.rejects(
    client(t, `https://127.0.0.1:${noise}`).request({ method: 'GET', path: '/' }),
    failure('tls_failed', /TLS 1\.2/),
  );
});

test('a server that requires a client certificate is reported as refusing ours', async (t) => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const settings = {
      cert: serverIdentity.certPem,
      key: serverIdentity.keyPem,
      ca: ca.certPem,
      requestCert: true,
      maxVersion,
    };
    const port = await listen(
      t,
      createHttps(settings, (_, reply) => void reply.end()),
    );
    await assert.rejects(
      client(t, `https://127.0.0.1:${port}`).request({ method: 'GET', path: '/' }),
      failure('client_certificate_refused'),
    );
  }
});

test('a request can be given up', async (t) => {
  const port = await listen(
    t,
    createTcp(() => {}),
  );
  const one = client(t, `http://127.0.0.1:${port}`);
  await assert.rejects(one.request({ method: 'GET', path: '/', signal: AbortSignal.abort() }), failure('aborted'));
  await assert.rejects(one.request({ method: 'GET', path: '/', signal: AbortSignal.timeout(50) }), failure('aborted'));
});

test('a URL with more than scheme, host and port is refused', () => {
  for (const baseUrl of ['', 'ftp://a', 'https://a/b', 'https://u:p@a', 'https://a?x', 'a:1', 'https://a:99999']) {
    assert.throws(
      () => openServerClient({ baseUrl, caPems: [ca.certPem], timeoutMs: 1 }),
      failure('invalid_endpoint'),
      baseUrl,
    );
  }
});

test('a host is an address or a name and nothing that makes another URL', () => {
  assert.equal(authority('::1', 9002), '[::1]:9002');
  assert.equal(authority('[::1]', 9002), '[::1]:9002');
  assert.equal(authority('fe80::1%eth0', 9002), '[fe80::1]:9002');
  assert.equal(authority('agent_1.example', 1), 'agent_1.example:1');
  for (const host of [
    '',
    'a b',
    'a/b',
    'a@b',
    'a?b',
    'a#b',
    'a:80',
    '1.2.3.4:80',
    '[',
    'é',
    '..',
    'a'.repeat(300),
    'a\r\nX: y',
  ]) {
    assert.throws(() => authority(host, 80), failure('invalid_endpoint'), host);
  }
  for (const port of [0, -1, 65_536, 1.5, Number.NaN])
    assert.throws(() => authority('a', port), failure('invalid_endpoint'));
});
