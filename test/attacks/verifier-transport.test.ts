import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import type { Lies, LyingAgent } from '@keylime/testing/lying-agent';
import { testAgentIdentity, testCa } from '@keylime/testing/test-certificates';
import {
  type AttackedVerifier,
  assertFails,
  enrolment,
  FAILED,
  GET_QUOTE,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Hole 5 and whatever else somebody in the network, or an agent that does not play by the rules of HTTP, can try: nobody
 * but the holder of the registered certificate is heard, and no answer holds up another agent.
 */
let verifier: AttackedVerifier;
let witness: LyingAgent;
before(async () => {
  verifier = await startAttackedVerifier({ settings: { request_timeout: '0.5', max_upload_size: '2000000' } });
  witness = await verifier.agent('witness');
  await verifier.enrol(witness);
});
after(() => verifier?.stop());

const NOT_REACHABLE = { event: 'internal.verifier.not_reachable', state: FAILED };

/** Asserts that an agent that was well all the time was asked and passed while `work` went on. */
async function withoutHarmToOthers(work: () => Promise<unknown>): Promise<void> {
  const { attestation_count: count } = await verifier.until(
    'witness',
    ({ attestation_count }) => attestation_count > 0,
  );
  await work();
  const status = await verifier.until('witness', ({ attestation_count }) => attestation_count > count + 1);
  assert.deepEqual([status.operational_state, status.last_event_id], [GET_QUOTE, null]);
}

for (const [name, identity] of [
  ['another certificate of the same CA', () => verifier.ca.issue({ commonNames: ['x'], names: ['127.0.0.1'] })],
  ['a self-made certificate of the same name', () => testAgentIdentity('impostor')],
  [
    'a certificate of a CA that everybody trusts',
    async () => (await testCa('Public CA')).issue({ purpose: 'serverAuth', names: ['127.0.0.1', 'localhost'] }),
  ],
  [
    "the verifier's own server certificate",
    async () => {
      const read = (file: string) => readFile(`${verifier.folder}/cv_ca/${file}`, 'utf8');
      return { certPem: await read('server-cert.crt'), keyPem: await read('server-private.pem') };
    },
  ],
] as const) {
  test(`[MUST] hole 5: ${name} is not the agent's`, async () => {
    const id = `impostor-${name.length}`;
    const agent = await verifier.agent(id, { shows: await identity() });
    await verifier.enrol(agent);
    await assertFails(verifier, agent, {
      ...NOT_REACHABLE,
      message: /it shows another certificate than the registered one/,
    });
    assert.equal(agent.asked.length, 0, 'no request was sent to it');
  });
}

test('[MUST] redirects are not followed, wherever they lead', async (t) => {
  let hits = 0;
  const target = createServer({ cert: witness.identity.certPem, key: witness.identity.keyPem }, (_, response) => {
    hits++;
    response.end('{}');
  }).on('connection', () => hits++);
  const port = await listen(t, target);
  for (const [n, code] of [301, 302, 307, 308].entries()) {
    const agent = await verifier.agent(`redirect-${n}`);
    agent.lie({
      respond: (request, response) =>
        response.writeHead(code, { location: `https://127.0.0.1:${port}${request.url}` }).end(),
    });
    await verifier.enrol(agent);
    await assertFails(verifier, agent, {
      event: 'internal.verifier.no_quote',
      message: new RegExp(`answered ${code}`),
      state: FAILED,
    });
  }
  assert.equal(hits, 0);
});

const answering = (code: number, body: string | Buffer): Lies => ({
  respond: (_, response) => response.writeHead(code, { 'content-type': 'application/json' }).end(body),
});
const endless = (response: ServerResponse, chunk: Buffer) => {
  response.writeHead(200);
  const more = () => {
    while (!response.destroyed && response.write(chunk));
    if (!response.destroyed) response.once('drain', more);
  };
  more();
};

const misbehaviours: readonly [
  name: string,
  lies: Lies,
  expected: { event: string; message: RegExp; state?: number },
][] = [
  ...[404, 400, 403, 418].map(
    (code) =>
      [
        `answers ${code}`,
        answering(code, JSON.stringify({ code, status: 'no', results: {} })),
        {
          event: 'internal.verifier.no_quote',
          message: new RegExp(`answered ${code} to a quote request: no`),
          state: FAILED,
        },
      ] as [string, Lies, { event: string; message: RegExp; state: number }],
  ),
  ...[408, 500, 503].map(
    (code) =>
      [`answers ${code} for ever`, answering(code, 'x'), { ...NOT_REACHABLE, message: new RegExp(`HTTP ${code}`) }] as [
        string,
        Lies,
        { event: string; message: RegExp; state: number },
      ],
  ),
  [
    'answers garbage',
    answering(200, Buffer.from([0xff, 0xfe, 0x00, 0x7b])),
    { event: 'qoute_validation.invalid_data', message: /results: an object is wanted/ },
  ],
  [
    'answers JSON of another shape',
    answering(200, '[[[[]]]]'),
    { event: 'qoute_validation.invalid_data', message: /results: an object is wanted/ },
  ],
  [
    'answers JSON a hundred thousand levels deep',
    answering(200, `{"results":${'['.repeat(100_000)}${']'.repeat(100_000)}}`),
    { event: 'qoute_validation.invalid_data', message: /results: an object is wanted/ },
  ],
  [
    'answers nothing',
    answering(200, ''),
    { event: 'qoute_validation.invalid_data', message: /results: an object is wanted/ },
  ],
  ['never answers', { respond: () => {} }, { ...NOT_REACHABLE, message: /no answer within 500 ms/ }],
  [
    'begins an answer and does not end it',
    { respond: (_, response) => void response.writeHead(200).write('{"results":') },
    { ...NOT_REACHABLE, message: /not complete 500 ms after it began/ },
  ],
  [
    'drips an answer',
    {
      respond: (_, response) => {
        response.writeHead(200);
        const timer = setInterval(() => response.write(' '), 20);
        response.once('close', () => clearInterval(timer));
      },
    },
    { ...NOT_REACHABLE, message: /not complete 500 ms after it began/ },
  ],
  [
    'answers without end',
    { respond: (_, response) => endless(response, Buffer.alloc(4_000_000, 0x20)) },
    { ...NOT_REACHABLE, message: /larger than the 2000000 bytes allowed/ },
  ],
  [
    'announces more than is allowed',
    { respond: (_, response) => void response.writeHead(200, { 'content-length': 1e12 }).write('x') },
    { ...NOT_REACHABLE, message: /larger than|not complete/ },
  ],
  [
    'closes the connection',
    { respond: (request) => request.socket.destroy() },
    { ...NOT_REACHABLE, message: /closed the connection/ },
  ],
  [
    'speaks no HTTP',
    { respond: (request) => request.socket.end('SSH-2.0-OpenSSH_9.2\r\n') },
    { ...NOT_REACHABLE, message: /not HTTP/ },
  ],
  [
    'sends headers without end',
    { respond: (_, response) => response.writeHead(200, { x: 'y'.repeat(100_000) }).end() },
    { ...NOT_REACHABLE, message: /not HTTP/ },
  ],
  [
    'gives a megabyte as the reason of a refusal',
    answering(404, JSON.stringify({ status: 'r'.repeat(1_000_000) })),
    { event: 'internal.verifier.no_quote', message: /no reason given/, state: FAILED },
  ],
  [
    'gives a page as the reason of a refusal',
    answering(404, JSON.stringify({ status: 'r'.repeat(10_000) })),
    { event: 'internal.verifier.no_quote', message: /: r{300}…/, state: FAILED },
  ],
];

for (const [n, [name, lies, expected]] of misbehaviours.entries()) {
  test(`an agent that ${name} fails by itself`, async () => {
    const agent = await verifier.agent(`behaviour-${n}`);
    agent.lie(lies);
    await withoutHarmToOthers(async () => {
      await verifier.enrol(agent);
      await assertFails(verifier, agent, expected);
    });
  });
}

const refusing = (versions: unknown): Lies => ({
  respond: (request, response, truth) => {
    if (request.url === '/version') {
      response
        .writeHead(200)
        .end(JSON.stringify({ code: 200, status: 'Success', results: { supported_versions: versions } }));
    } else if (request.url?.startsWith('/v2.1/')) response.writeHead(200).end(truth());
    else
      response
        .writeHead(400)
        .end(JSON.stringify({ code: 400, status: 'API version not supported: v2.5', results: {} }));
  },
});

test('[MUST] once attested, no older API version is agreed upon', async () => {
  const agent = await verifier.agent('downgrade');
  await verifier.enrol(agent);
  await verifier.until('downgrade', ({ attestation_count }) => attestation_count > 0);
  agent.lie(refusing(['2.0', '2.1']));
  await assertFails(verifier, agent, {
    event: 'internal.verifier.version_not_supported',
    message: /wants to go back from API version 2\.5 to 2\.1/,
    state: FAILED,
  });
});

test('before the first attestation an older API version is agreed upon', async () => {
  const agent = await verifier.agent('older');
  agent.lie(refusing(['2.1']));
  await verifier.enrol(agent);
  const { operational_state } = await verifier.until('older', ({ attestation_count }) => attestation_count > 0);
  assert.equal(operational_state, GET_QUOTE);
});

test('[MUST] an agent that changes its API version again and again is not waited for without end', async () => {
  const agent = await verifier.agent('undecided');
  let turn = 0;
  agent.lie({
    respond: (request, response) => {
      if (request.url !== '/version') return response.writeHead(400).end('{"status": "API version not supported"}');
      const supported_versions = [turn++ % 2 === 0 ? '2.1' : '2.2'];
      return response.writeHead(200).end(JSON.stringify({ results: { supported_versions } }));
    },
  });
  await verifier.enrol(agent);
  await assertFails(verifier, agent, {
    event: 'internal.verifier.version_not_supported',
    message: /changed its API version 3 times/,
    state: FAILED,
  });
});

test('versions that are none are not agreed upon', async () => {
  for (const [n, versions] of [[], ['9.9', '2.10', 'x'], [null, {}], 'none', ['3.0']].entries()) {
    const agent = await verifier.agent(`versions-${n}`);
    agent.lie(refusing(versions));
    await verifier.enrol(agent);
    await assertFails(verifier, agent, {
      event: 'internal.verifier.version_not_supported',
      message: /no API version in common/,
      state: FAILED,
    });
  }
});

test('an agent that only takes connections is given up', async (t) => {
  const port = await listen(
    t,
    createTcpServer((socket) => socket.on('error', () => {})),
  );
  const agent = await verifier.agent('silent');
  await withoutHarmToOthers(async () => {
    const json = enrolment(agent, { cloudagent_port: port });
    assert.equal((await verifier.ask({ method: 'POST', path: '/v2.6/agents/silent', json })).code, 200);
    await assertFails(verifier, agent, { ...NOT_REACHABLE, message: /no connection within 500 ms/ });
  });
});

type Listener = ReturnType<typeof createTcpServer> | ReturnType<typeof createServer>;

/** The port of a server that lives as long as the test. */
async function listen(t: TestContext, server: Listener): Promise<number> {
  const sockets = new Set<{ destroy: () => unknown }>();
  server.on('connection', (socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
