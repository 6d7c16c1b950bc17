import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { after, type TestContext, test } from 'node:test';
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { testCa } from '@keylime/testing/test-certificates';
import { Type } from 'typebox';
import { action, type VerifyToken } from './http-authorization.ts';
import { ListenError, listenAll, listenOn } from './http-listen.ts';
import { HttpProblem, unavailable } from './http-problem.ts';
import { forVersions, versionRoots } from './http-routes.ts';
import { buildHttpServer, type HttpServerOptions } from './http-server.ts';
import type { TypeBoxTypeProvider } from './http-typebox.ts';
import { openLog } from './log.ts';

const logLines: string[] = [];
const log = openLog({ name: 'test', destination: { write: (line: string) => logLines.push(line) } });

const ca = await testCa();
const foreignCa = await testCa('Foreign CA');
const server = await ca.issue({ commonNames: ['server'], purpose: 'serverAuth', names: ['localhost', '127.0.0.1'] });
const admin = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth' });
const tls = { certPem: server.certPem, keyPem: server.keyPem, clientCaPems: [ca.certPem] };

const verifyToken: VerifyToken = async (token) =>
  token === 'good'
    ? { agentId: 'a1' }
    : token === 'old'
      ? 'Authentication token expired'
      : 'Invalid authentication token';

const openServers: (() => Promise<void>)[] = [];
after(() => Promise.all(openServers.map((close) => close())));

async function start(options: Partial<HttpServerOptions> = {}) {
  const app = buildHttpServer({ log, bodyLimitBytes: 1000, ...options });
  forVersions(app, ['2', '2.0', '2.6'], (scope, version) => {
    scope.get('/agents', { config: action('list_agents') }, async (request) => ({
      identity: request.identity,
      version,
    }));
    scope.post('/agents', { config: action('register_agent') }, async (request) => ({ body: request.body ?? null }));
    scope.put('/agents/:agentId', { config: action('activate_agent') }, async (request) => ({
      body: request.body ?? null,
    }));
    scope.get('/agents/:agentId', { config: action('read_agent') }, async (request) => ({
      identity: request.identity,
    }));
    scope.get('/agents/:agentId/work', { config: action('submit_attestation') }, async () => ({}));
    scope.post('/policies', { config: action('create_policy') }, async () => ({}));
    scope.get('/forgotten', async () => ({}));
  });
  versionRoots(app, ['2', '2.6', '3.0']);
  app.get('/version', { config: action('read_version') }, async () => ({}));
  app.get('/broken', { config: action('read_version') }, async () => {
    throw new Error('the password is hunter2');
  });
  app.get('/busy', { config: action('read_version') }, async () => {
    throw unavailable('The database is not there.', 7);
  });
  app.get('/gone', { config: action('read_version') }, async () => {
    throw new HttpProblem(410, 'Served in pull mode only.');
  });
  const schema = { body: Type.Object({ auth_tag: Type.String(), port: Type.Optional(Type.Integer()) }) };
  app
    .withTypeProvider<TypeBoxTypeProvider>()
    .post('/strict', { config: action('register_agent'), schema }, async (request) => ({
      tag: request.body.auth_tag.length,
      keys: Object.keys(request.body),
    }));
  const { port } = await listenOn(app, { host: '127.0.0.1', port: 0 });
  openServers.push(() => app.close());
  return { app, port, base: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}` };
}

type Answer = {
  readonly code: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly json: Record<string, unknown>;
};

async function ask(
  url: string,
  options: ConnectionOptions & { method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<Answer> {
  const { method = 'GET', headers = {}, body, ...tlsOptions } = options;
  const send = url.startsWith('https') ? httpsRequest : httpRequest;
  const request = send(url, { method, headers, agent: false, ca: ca.certPem, ...tlsOptions });
  request.end(body);
  const [response] = (await once(request, 'response')) as [
    AsyncIterable<Buffer> & { statusCode: number; headers: IncomingHttpHeaders },
  ];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  return { code: response.statusCode, headers: response.headers, text, json: text === '' ? {} : JSON.parse(text) };
}

const json = { 'content-type': 'application/json' };
const plain = await start();
const secure = await start({ tls, verifyToken });
const lenient = await start({ parseBodyWithoutContentType: true });

function assertEnvelope(answer: Answer, code: number, status?: string | RegExp) {
  assert.equal(answer.code, code, answer.text);
  assert.match(answer.headers['content-type'] ?? '', /^application\/json/);
  assert.equal(answer.json.code, code);
  assert.deepEqual(answer.json.results, {});
  if (status instanceof RegExp) assert.match(String(answer.json.status), status);
  else if (status !== undefined) assert.equal(answer.json.status, status);
}

function assertRefused(answer: Answer, code: 401 | 403, detail: string) {
  assert.equal(answer.code, code, answer.text);
  assert.equal(answer.headers['content-type'], 'application/json; charset=UTF-8');
  const title = code === 401 ? 'Unauthorized' : 'Forbidden';
  assert.equal(answer.text, JSON.stringify({ errors: [{ status: String(code), title, detail }] }));
}

test('an unknown path or version is answered with 404 in an envelope', async () => {
  for (const path of [
    '/',
    '/nowhere',
    '/v9/agents',
    '/v2.9/agents',
    '/2.6/agents',
    '/v1.0/agents',
    '/V2/agents',
    '//x',
    '/v2/Agents',
  ]) {
    assertEnvelope(await ask(plain.base + path), 404);
  }
});

test('a known path with another method is answered with 405 and the methods that work', async () => {
  const answer = await ask(`${plain.base}/v2.6/agents/`, { method: 'DELETE' });
  assertEnvelope(answer, 405, 'Method DELETE is not supported here, only GET, POST.');
  assert.equal(answer.headers.allow, 'GET, POST');
  assert.equal((await ask(`${plain.base}/version`, { method: 'OPTIONS' })).code, 405);
  assert.equal((await ask(`${plain.base}/version`, { method: 'TRACE' })).code, 405);
  const head = await ask(`${plain.base}/version`, { method: 'HEAD' });
  assert.equal(head.code, 405);
  assert.equal(head.text, '');
});

test('a path works with and without its last slash, under every version', async () => {
  for (const path of ['/version', '/version/', '/v2/', '/v2.6/', '/v2.6', '/v3.0/']) {
    assert.equal((await ask(plain.base + path)).code, 200, path);
  }
  for (const version of ['2', '2.0', '2.6']) {
    const answer = await ask(`${plain.base}/v${version}/agents/`, { method: 'POST', headers: json, body: '{"a":1}' });
    assert.deepEqual(answer.json, { body: { a: 1 } });
  }
});

test('the root of a version is answered with an empty envelope', async () => {
  assertEnvelope(await ask(`${plain.base}/v3.0/`), 200, 'Success');
});

test('a body that is not JSON, or not UTF-8, is answered with 400', async () => {
  for (const body of [
    '{"a":',
    '',
    '[1,]',
    '{"__proto__": {"x": 1}}',
    '{"a": {"constructor": {"prototype": {}}}}',
    Buffer.from('"\xff"', 'latin1'),
  ]) {
    for (const { base } of [plain, lenient]) {
      const answer = await ask(`${base}/v2/agents`, { method: 'POST', headers: json, body });
      if (body.length === 0) assert.deepEqual(answer.json, { body: null });
      else assertEnvelope(answer, 400, /The body is not/);
    }
  }
});

test('a body nested a hundred thousand times does not harm the server', async (t) => {
  const deep = await startFor(t, { bodyLimitBytes: 1_000_000 });
  const body = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
  const answer = await ask(`${deep.base}/strict`, { method: 'POST', headers: json, body });
  assertEnvelope(answer, 400, /must be object/);
});

test('a body over the limit is answered with 413, whether or not its length was announced', async () => {
  const body = JSON.stringify('x'.repeat(2000));
  assertEnvelope(await ask(`${plain.base}/v2/agents`, { method: 'POST', headers: json, body }), 413);
  const chunked = { ...json, 'transfer-encoding': 'chunked' };
  assertEnvelope(await ask(`${plain.base}/v2/agents`, { method: 'POST', headers: chunked, body }), 413);
});

test('a strict server answers a body without JSON content type with 415', async () => {
  for (const headers of [
    {},
    { 'content-type': 'text/plain' },
    { 'content-type': 'application/x-www-form-urlencoded' },
    { 'content-type': 'nonsense' },
  ]) {
    assertEnvelope(
      await ask(`${plain.base}/v2/agents`, { method: 'POST', headers, body: '{}' }),
      415,
      /application\/json/,
    );
  }
  for (const type of ['application/json; charset=utf-8', 'application/vnd.api+json']) {
    const answer = await ask(`${plain.base}/v2/agents`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: '{}',
    });
    assert.deepEqual(answer.json, { body: {} });
  }
});

test('a lenient server reads JSON whatever the content type, and takes no body at all', async () => {
  for (const headers of [{}, { 'content-type': 'text/plain' }, json]) {
    const answer = await ask(`${lenient.base}/v2/agents`, { method: 'POST', headers, body: '{"a":1}' });
    assert.deepEqual(answer.json, { body: { a: 1 } });
  }
  for (const headers of [{}, json, { 'transfer-encoding': 'chunked' }]) {
    assert.deepEqual((await ask(`${lenient.base}/v2/agents/a1`, { method: 'PUT', headers })).json, { body: null });
  }
});

test('a body that does not fit its schema is answered with 400 and the name of the field', async () => {
  for (const body of ['{}', '{"auth_tag": 5}', '{"auth_tag": null}', '{"auth_tag": ["x"]}', 'null', '[]', '"x"']) {
    const answer = await ask(`${plain.base}/strict`, { method: 'POST', headers: json, body });
    assertEnvelope(answer, 400, /auth_tag|must be object/);
  }
  const port = await ask(`${plain.base}/strict`, {
    method: 'POST',
    headers: json,
    body: '{"auth_tag": "x", "port": "5"}',
  });
  assertEnvelope(port, 400, /port must be integer/);
  assertEnvelope(await ask(`${plain.base}/strict`, { method: 'POST' }), 400, /must be object/);
});

test('a body that fits its schema reaches the handler as it was sent', async () => {
  const answer = await ask(`${plain.base}/strict`, {
    method: 'POST',
    headers: json,
    body: '{"auth_tag": "abc", "more": 1}',
  });
  assert.deepEqual(answer.json, { tag: 3, keys: ['auth_tag', 'more'] });
});

test('a path that is no URL path is answered with 400', async () => {
  assertEnvelope(await ask(`${plain.base}/v2/agents/%zz`), 400);
});

test('an error of ours is answered with 500, tells the peer nothing and is logged with the request id', async () => {
  const answer = await ask(`${plain.base}/broken`, { headers: { 'x-request-id': 'find-me' } });
  assertEnvelope(answer, 500, 'Internal Server Error');
  assert.doesNotMatch(answer.text, /hunter2|http-server/);
  assert.ok(logLines.some((line) => line.includes('findme') && line.includes('/broken')));
});

test('a problem that a handler names is answered as it says', async () => {
  assertEnvelope(await ask(`${plain.base}/gone`), 410, 'Served in pull mode only.');
  const busy = await ask(`${plain.base}/busy`);
  assertEnvelope(busy, 503, 'The database is not there.');
  assert.equal(busy.headers['retry-after'], '7');
});

test('X-Request-ID comes back without what is no word character, cut to 36', async () => {
  const idOf = async (id: string) =>
    (await ask(`${plain.base}/version`, { headers: { 'x-request-id': id } })).headers['x-request-id'];
  assert.equal(await idOf('abc123'), 'abc123');
  assert.equal(await idOf('a-b c"<é>d'), 'abcd');
  assert.equal(await idOf('x'.repeat(50)), 'x'.repeat(36));
  assert.match(String((await ask(`${plain.base}/nowhere`)).headers['x-request-id']), /^\w+$/);
});

test('an administrator by client certificate may do what is for administrators', async () => {
  const answer = await ask(`${secure.base}/v2.6/agents`, { cert: admin.certPem, key: admin.keyPem });
  assert.deepEqual(answer.json, { identity: { kind: 'admin', name: 'client' }, version: '2.6' });
});

test('nobody reaches public routes, and is refused elsewhere in the words that scripts look for', async () => {
  assert.equal((await ask(`${secure.base}/version`)).code, 200);
  assertRefused(
    await ask(`${secure.base}/v2/agents`),
    403,
    'Action list_agents requires admin authentication (mTLS certificate)',
  );
  assertRefused(await ask(`${secure.base}/v2/agents/a1`), 403, 'Action read_agent requires authentication');
  assertRefused(
    await ask(`${secure.base}/v2/agents/a1/work`),
    403,
    'Action submit_attestation requires agent authentication (PoP token)',
  );
});

test('a route without an action is refused to everybody', async () => {
  const detail = 'Could not determine required permissions for this operation';
  assertRefused(await ask(`${secure.base}/v2/forgotten`, { cert: admin.certPem, key: admin.keyPem }), 403, detail);
});

test('a protected route over plain HTTP is answered with 400', async () => {
  assertEnvelope(await ask(`${plain.base}/v2/agents`), 400, /HTTPS/);
});

test('path, method and permission are checked before the body is looked at', async () => {
  const options = { headers: { 'content-type': 'nonsense' }, body: '{' };
  assertEnvelope(await ask(`${secure.base}/nowhere`, { ...options, method: 'POST' }), 404);
  assertEnvelope(await ask(`${secure.base}/v2/agents`, { ...options, method: 'DELETE' }), 405);
  assert.equal((await ask(`${secure.base}/v2/policies`, { ...options, method: 'POST' })).code, 403);
});

test('a bearer token stands for its agent and for no other', async () => {
  const bearer = { headers: { authorization: 'Bearer good' } };
  assert.deepEqual((await ask(`${secure.base}/v2/agents/a1`, bearer)).json, {
    identity: { kind: 'agent', agentId: 'a1' },
  });
  assert.equal((await ask(`${secure.base}/v2/agents/a1/work`, bearer)).code, 200);
  const detail = 'Agent a1 cannot access resource a2 (ownership required)';
  assertRefused(await ask(`${secure.base}/v2/agents/a2`, bearer), 403, detail);
  // The id that is authorised is the one that is used, whatever the query says.
  assertRefused(await ask(`${secure.base}/v2/agents/a2?agents=a1&agentId=a1`, bearer), 403, detail);
});

test('an Authorization header that is not valid is refused, also on public routes and with an administrator certificate', async () => {
  for (const [header, detail] of [
    ['Bearer bad', 'Invalid authentication token'],
    ['Bearer old', 'Authentication token expired'],
    ['bearer good', 'Invalid Authorization header format'],
    ['Bearer ', 'Invalid Authorization header format'],
    ['Bearer a b', 'Invalid Authorization header format'],
    ['Basic YTpi', 'Invalid Authorization header format'],
    ['', 'Invalid Authorization header format'],
  ] as const) {
    for (const path of ['/version', '/v2/agents']) {
      const options = { cert: admin.certPem, key: admin.keyPem, headers: { authorization: header } };
      assertRefused(await ask(secure.base + path, options), 401, detail);
    }
  }
});

test('a valid token beside an administrator certificate is the agent only', async () => {
  const options = { cert: admin.certPem, key: admin.keyPem, headers: { authorization: 'Bearer good' } };
  assertRefused(
    await ask(`${secure.base}/v2/agents`, options),
    403,
    'Action list_agents requires admin authentication (mTLS certificate)',
  );
});

test('without a verifier of tokens no token is valid', async (t) => {
  const { base } = await startFor(t, { tls });
  assertRefused(
    await ask(`${base}/version`, { headers: { authorization: 'Bearer good' } }),
    401,
    'Invalid authentication token',
  );
});

test('a client certificate that does not verify ends the connection, on public routes too', async () => {
  const day = 86_400_000;
  for (const [what, leaf] of [
    ['foreign CA', await foreignCa.issue({ commonNames: ['client'], purpose: 'clientAuth' })],
    ['server certificate', server],
    [
      'expired',
      await ca.issue({
        commonNames: ['client'],
        purpose: 'clientAuth',
        notBefore: new Date(Date.now() - 2 * day),
        notAfter: new Date(Date.now() - day),
      }),
    ],
    [
      'not yet valid',
      await ca.issue({
        commonNames: ['client'],
        purpose: 'clientAuth',
        notBefore: new Date(Date.now() + day),
        notAfter: new Date(Date.now() + 2 * day),
      }),
    ],
  ] as const) {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const options = { cert: leaf.certPem, key: leaf.keyPem, maxVersion };
      await assert.rejects(ask(`${secure.base}/version`, options), { code: 'ECONNRESET' }, `${what} ${maxVersion}`);
    }
  }
});

test('a client whose certificate was refused gets no session that it could resume', async () => {
  const foreign = await foreignCa.issue({ commonNames: ['client'], purpose: 'clientAuth' });
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const options = { host: '127.0.0.1', port: secure.port, ca: ca.certPem, maxVersion };
    const socket = tlsConnect({ ...options, cert: foreign.certPem, key: foreign.keyPem });
    const closed = Promise.withResolvers<void>();
    const sessions: Buffer[] = [];
    socket.on('error', () => {});
    socket.on('session', (fresh) => sessions.push(fresh));
    socket.on('close', () => closed.resolve());
    await closed.promise;
    for (const session of sessions) {
      await assert.rejects(ask(`${secure.base}/version`, { ...options, session }), { code: 'ECONNRESET' }, maxVersion);
    }
    assert.ok(maxVersion === 'TLSv1.3' || sessions.length === 0);
  }
});

test('a resumed session without client certificate is still nobody', async () => {
  const session = await sessionOf({ port: secure.port, ca: ca.certPem });
  const answer = await ask(`${secure.base}/v2/agents`, { session });
  assertRefused(answer, 403, 'Action list_agents requires admin authentication (mTLS certificate)');
});

test('a resumed session of an administrator is still the administrator', async () => {
  const options = { ca: ca.certPem, cert: admin.certPem, key: admin.keyPem };
  const session = await sessionOf({ port: secure.port, ...options });
  assert.equal((await ask(`${secure.base}/v2/agents`, { ...options, session })).code, 200);
});

test('a certificate without common name is nobody, and of several common names the first counts', async () => {
  const nameless = await ca.issue({ purpose: 'clientAuth' });
  const empty = await ca.issue({ purpose: 'clientAuth', commonNames: [''] });
  for (const leaf of [nameless, empty]) {
    const answer = await ask(`${secure.base}/v2/agents`, { cert: leaf.certPem, key: leaf.keyPem });
    assertRefused(answer, 403, 'Action list_agents requires admin authentication (mTLS certificate)');
  }
  const two = await ca.issue({ purpose: 'clientAuth', commonNames: ['alice', 'client'] });
  const answer = await ask(`${secure.base}/v2/agents`, { cert: two.certPem, key: two.keyPem });
  assert.deepEqual(answer.json.identity, { kind: 'admin', name: 'alice' });
});

test('a certificate without extended key usage is an administrator only under the name of the old folders', async (t) => {
  const old = await ca.issue({ commonNames: ['client'] });
  assert.equal((await ask(`${secure.base}/v2/agents`, { cert: old.certPem, key: old.keyPem })).code, 200);
  for (const commonNames of [
    ['server'],
    ['d432fbb3-d2f1-4a97-9ef7-75bd81c00000'],
    ['RevocationNotifier'],
    ['server', 'client'],
    ['client\nCN=x'],
  ]) {
    const leaf = await ca.issue({ commonNames });
    const answer = await ask(`${secure.base}/v2/agents`, { cert: leaf.certPem, key: leaf.keyPem });
    assertRefused(answer, 403, 'Action list_agents requires admin authentication (mTLS certificate)');
  }
  const closed = await startFor(t, { tls: { ...tls, adminNamesWithoutEku: [] } });
  assert.equal((await ask(`${closed.base}/v2/agents`, { cert: old.certPem, key: old.keyPem })).code, 403);
});

test('the certificate of a CA below ours is no administrator', async () => {
  const below = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth', isCa: true });
  const answer = await ask(`${secure.base}/v2/agents`, { cert: below.certPem, key: below.keyPem });
  assertRefused(answer, 403, 'Action list_agents requires admin authentication (mTLS certificate)');
});

test('TLS 1.1 is not spoken', async () => {
  const socket = tlsConnect({
    host: '127.0.0.1',
    port: secure.port,
    ca: ca.certPem,
    minVersion: 'TLSv1.1',
    maxVersion: 'TLSv1.1',
    ciphers: 'ALL:@SECLEVEL=0',
  });
  const [error] = (await once(socket, 'error')) as [Error & { code: string }];
  assert.match(
    error.code,
    /ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION|ERR_SSL_NO_PROTOCOLS_AVAILABLE|ERR_SSL_UNSUPPORTED_PROTOCOL/,
  );
});

test('a server that requires a certificate refuses clients without one', async (t) => {
  const { base } = await startFor(t, { tls: { ...tls, requireClientCertificate: true }, authorization: 'none' });
  await assert.rejects(ask(`${base}/version`), /alert|ECONNRESET|socket hang up/i);
  assert.equal((await ask(`${base}/version`, { cert: admin.certPem, key: admin.keyPem })).code, 200);
});

test('a server that would trust no CA is not built', () => {
  assert.throws(() => buildHttpServer({ log, bodyLimitBytes: 1, tls: { ...tls, clientCaPems: [] } }), RangeError);
  assert.throws(() => buildHttpServer({ log, bodyLimitBytes: 1, tls: { ...tls, clientCaPems: ['all'] } }), RangeError);
});

test('connections that send nothing, half a header, half a body or no handshake are closed and hold nobody up', async (t) => {
  const timeouts = { headersMs: 300, requestMs: 600, idleMs: 2_000 };
  const { port, base } = await startFor(t, { timeouts });
  const slow = await Promise.all(
    [
      '',
      'GET /version HT',
      'GET /version HTTP/1.1\r\nHost: x\r\nX-A: ',
      'POST /v2/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{',
    ].map((text) => open(port, text)),
  );
  const closed = slow.map((socket) => once(socket, 'close'));
  const before = performance.now();
  assert.equal((await ask(`${base}/version`)).code, 200);
  assert.ok(performance.now() - before < 250);
  await Promise.all(closed);
});

test('a TLS port closes connections without handshake, and those that speak something else', async (t) => {
  const { port, base } = await startFor(t, { tls, timeouts: { headersMs: 300 } });
  const silent = await open(port, '');
  const closed = once(silent, 'close');
  const plainHttp = await open(port, 'GET /version HTTP/1.1\r\nHost: x\r\n\r\n');
  assert.doesNotMatch(await textOf(plainHttp), /HTTP/);
  assert.equal((await ask(`${base}/version`)).code, 200);
  await closed;
});

test('a request that comes too slowly is answered with 408', async (t) => {
  const { port } = await startFor(t, { timeouts: { headersMs: 200, requestMs: 300 } });
  const socket = await open(port, 'GET /version HTTP/1.1\r\nHost: x\r\n');
  assert.match(
    await textOf(socket),
    /^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*\{"code":408,"status":"Request Timeout","results":\{\}\}$/,
  );
});

test('what is not HTTP, and headers without end, are answered with an error and closed', async () => {
  assert.match(await textOf(await open(plain.port, 'HELO\r\n\r\n')), /^HTTP\/1\.1 400 [\s\S]*"code":400/);
  const huge = `GET /version HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(20_000)}\r\n\r\n`;
  assert.match(await textOf(await open(plain.port, huge)), /^HTTP\/1\.1 431 [\s\S]*"code":431/);
});

test('two requests hidden in one are refused', async () => {
  const smuggled =
    'POST /v2/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /version HTTP/1.1\r\n\r\n';
  assert.match(await textOf(await open(plain.port, smuggled)), /^HTTP\/1\.1 400 /);
});

test('closing drops kept-alive connections, lets an answer finish and does not wait for a stuck one', async () => {
  const app = buildHttpServer({ log, bodyLimitBytes: 10, timeouts: { closeMs: 200 } });
  const begun = Promise.withResolvers<void>();
  app.get('/stuck', { config: action('read_version') }, () => {
    begun.resolve();
    return new Promise(() => {});
  });
  app.get('/version', { config: action('read_version') }, async () => ({}));
  const { port } = await listenOn(app, { host: '127.0.0.1', port: 0 });
  const idle = await open(port, 'GET /version HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(idle, 'data');
  const stuck = await open(port, 'GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n');
  await begun.promise;
  const gone = [once(idle, 'close'), once(stuck, 'close')];
  await app.close();
  await Promise.all(gone);
});

test('a request that gets in while the server closes is answered as always, not with 503', async () => {
  const app = buildHttpServer({ log, bodyLimitBytes: 10 });
  app.get('/version', { config: action('read_version') }, async () => ({}));
  const closing = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  app.addHook('preClose', async () => {
    closing.resolve();
    await answered.promise;
  });
  const { port } = await listenOn(app, { host: '127.0.0.1', port: 0 });
  const keptAlive = await open(port, 'GET /version HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(keptAlive, 'data');
  const closed = app.close();
  await closing.promise;
  keptAlive.write('GET /version HTTP/1.1\r\nHost: x\r\n\r\n');
  const [answer] = await once(keptAlive, 'data');
  answered.resolve();
  assert.match(String(answer), /^HTTP\/1\.1 200 /);
  await closed;
});

test('two servers of one program start together or not at all', async () => {
  const build = (options: Partial<HttpServerOptions>) => {
    const app = buildHttpServer({ log, bodyLimitBytes: 1000, ...options });
    app.get('/version', { config: action('read_version') }, async () => ({}));
    return app;
  };
  const free = { host: '127.0.0.1', port: 0 };
  const both = await listenAll([
    { app: build({}), address: free },
    { app: build({ tls }), address: free },
  ]);
  assert.equal((await ask(`http://127.0.0.1:${both.addresses[0]?.port}/version`)).code, 200);
  assert.equal((await ask(`https://127.0.0.1:${both.addresses[1]?.port}/version`)).code, 200);
  await both.close();
  await assert.rejects(
    listenAll([
      { app: build({}), address: free },
      { app: build({}), address: { host: '127.0.0.1', port: plain.port } },
    ]),
    (error: unknown) =>
      error instanceof ListenError && error.code === 'EADDRINUSE' && error.message.includes(`127.0.0.1:${plain.port}`),
  );
});

async function startFor(t: TestContext, options: Partial<HttpServerOptions>) {
  const started = await start(options);
  t.after(() => started.app.close());
  return started;
}

async function open(port: number, text: string): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(text);
  socket.resume();
  return socket;
}

async function textOf(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  await once(socket, 'close');
  return Buffer.concat(chunks).toString();
}

/** A session that the server offered to a client which made one request. */
async function sessionOf(options: ConnectionOptions): Promise<Buffer> {
  const socket: TLSSocket = tlsConnect({ host: '127.0.0.1', ...options });
  const session = once(socket, 'session');
  await once(socket, 'secureConnect');
  socket.write('GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  socket.resume();
  const [fresh] = (await session) as [Buffer];
  socket.destroy();
  return fresh;
}
