import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import fc from 'fast-check';
import {
  type AttackedVerifier,
  base64,
  GET_QUOTE,
  longestHoldDuring,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Whatever is sent to the verifier is answered with a clear 4xx (or 503 and when to come back), never with a 500, and
 * holds up the attestation of no agent.
 */
let verifier: AttackedVerifier;
let witness: LyingAgent;
before(async () => {
  verifier = await startAttackedVerifier({ settings: { max_upload_size: '33554432' } });
  witness = await verifier.agent('witness');
  await verifier.enrol(witness);
});
after(() => verifier?.stop());

/** What `longestHoldDuring` finds; the agent was asked and passed all the time. */
async function longestHold(work: () => Promise<unknown>): Promise<number> {
  const { attestation_count: count } = await verifier.until(
    'witness',
    ({ attestation_count }) => attestation_count > 0,
  );
  const longest = await longestHoldDuring(work);
  const status = await verifier.until('witness', ({ attestation_count }) => attestation_count > count);
  assert.deepEqual([status.operational_state, status.last_event_id], [GET_QUOTE, null]);
  return longest;
}

/** Far below what the attacks cost where they are not kept apart. */
const MOST_HOLD_MS = 400;

const put = (name: string, text: string | Buffer) =>
  verifier.ask({
    method: 'POST',
    path: `/v2.6/allowlists/${name}`,
    json: { runtime_policy: Buffer.from(text).toString('base64') },
  });

const BODY_ROUTES: readonly (readonly [method: string, path: string])[] = [
  ['POST', '/v2.6/agents/x'],
  ['POST', '/v2.6/allowlists/x'],
  ['PUT', '/v2.6/allowlists/x'],
  ['POST', '/v2.6/verify/evidence'],
];

test('bodies that are no JSON object are answered with 400, in JSON', async () => {
  const bodies = [
    '',
    '{',
    'null',
    '[]',
    '"x"',
    '5',
    '{"a":1}}',
    '\u0000',
    Buffer.from([0xff, 0xfe, 0x7b, 0x7d]),
    'a=b&c=d',
  ];
  for (const [method, path] of BODY_ROUTES) {
    for (const body of bodies) {
      for (const type of [undefined, 'application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
        const answer = await verifier.ask({
          method,
          path,
          body,
          headers: type === undefined ? {} : { 'content-type': type },
        });
        assert.equal(answer.code, 400, `${method} ${path} ${type} ${body}: ${answer.text}`);
        assert.deepEqual([answer.json.code, answer.results], [400, {}]);
      }
    }
  }
});

test('a body that is not UTF-8 is refused, even if all that is read of it were', async () => {
  const policy = JSON.stringify({ runtime_policy: base64(runtimePolicy()), comment: '%' });
  const body = Buffer.from(policy);
  body.writeUInt8(0xff, body.lastIndexOf('%'));
  const answer = await verifier.ask({ method: 'POST', path: '/v2.6/allowlists/latin1', body });
  assert.deepEqual([answer.code, answer.status], [400, 'The body is not UTF-8.']);
  assert.equal((await verifier.ask({ path: '/v2.6/allowlists/latin1' })).code, 404);
});

test('keys that would change prototypes are refused or without effect', async () => {
  for (const body of ['{"__proto__": {"type": "tpm"}}', '{"constructor": {"prototype": {"type": "tpm"}}}']) {
    for (const [method, path] of BODY_ROUTES) {
      assert.equal((await verifier.ask({ method, path, body })).code, 400);
    }
  }
  assert.equal(({} as Record<string, unknown>).type, undefined);
});

test('a body above the limit is answered with 413, or its connection closed, before it is all there', async () => {
  for (const [method, path] of BODY_ROUTES) {
    const request = verifier.ask({ method, path, body: Buffer.alloc(34_000_000, 0x20) });
    const outcome = await request.then(
      ({ code, json }) => [code, json.code],
      (error: NodeJS.ErrnoException) => error.code,
    );
    if (typeof outcome === 'string') assert.match(outcome, /EPIPE|ECONNRESET/);
    else assert.deepEqual(outcome, [413, 413]);
  }
});

test('hostile regular expressions are refused, or matched in linear time', async () => {
  const name = `/${'a'.repeat(3000)}!`;
  for (const [n, pattern] of ['(a+)+$', '(/|a|aa)+$', '(.*a){20}$', '/(a?){50}a{50}$'].entries()) {
    const agent = await verifier.agent(`pattern-${n}`);
    for (let i = 0; i < 20; i++) agent.machine.measure(`${name}${i}`, Buffer.alloc(0));
    await verifier.enrol(agent, { runtime_policy: base64(runtimePolicy({ excludes: [pattern] })) });
    const hold = await longestHold(() => verifier.until(agent.id, ({ operational_state }) => operational_state !== 1));
    assert.ok(hold < MOST_HOLD_MS, `${pattern}: ${hold} ms`);
  }
  for (const pattern of ['(', '(?<=a)b', '(a)\\1', '[z-a]', 'a{1000}{1000}', '*']) {
    const answer = await put('pattern', runtimePolicy({ excludes: [pattern] }));
    assert.equal(answer.code, 400, pattern);
    assert.match(answer.status, /exclude pattern 0/);
  }
});

test('policies with a hundred thousand problems get a short answer', async () => {
  const many = <T>(make: (n: number) => T) => Array.from({ length: 100_000 }, (_, n) => make(n));
  const digests = Object.fromEntries(many((n) => [`/file-${n}`, ['bad']]));
  for (const changes of [{ digests }, { excludes: many(() => '(') }, { keyrings: { x: many(() => 5) } }]) {
    const answer = await put('problems', runtimePolicy(changes));
    assert.equal(answer.code, 400);
    assert.match(answer.status, /more problems\)/);
    assert.ok(answer.text.length < 2000);
  }
  const tpm_policy = JSON.stringify(Object.fromEntries(many((n) => [`x${n}`, ''])));
  const agent = await verifier.ask({ method: 'POST', path: '/v2.6/agents/problems', json: { tpm_policy } });
  assert.equal(agent.code, 400);
  assert.ok(agent.text.length < 3000, `${agent.text.length} bytes`);
});

test('names of policies: what a database or a path cannot hold is refused', async () => {
  for (const name of ['%00', 'a%00b', 'a%0Ab', 'n'.repeat(256), '%7F', '%ED%A0%80', '%FF']) {
    for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
      const answer = await verifier.ask({
        method,
        path: `/v2.6/allowlists/${name}`,
        ...(method.startsWith('P') ? { json: { runtime_policy: base64(runtimePolicy()) } } : {}),
      });
      assert.ok(answer.code === 400 || answer.code === 404, `${method} ${name}: ${answer.code}`);
    }
  }
  const strange = `/v2.6/allowlists/${encodeURIComponent("'; drop table agents; -- ☠ %2e /")}`;
  assert.equal(
    (await verifier.ask({ method: 'POST', path: strange, json: { runtime_policy: base64(runtimePolicy()) } })).code,
    201,
  );
  assert.equal((await verifier.ask({ path: strange })).results.runtime_policy, runtimePolicy());
  assert.equal((await verifier.ask({ method: 'DELETE', path: strange })).code, 204);
});

test('[property] whatever evidence strangers bring, the answer is 200 or a 4xx', async () => {
  const good = {
    type: 'tpm',
    data: {
      quote: 'r::',
      nonce: 'n',
      hash_alg: 'sha256',
      tpm_ek: 'x',
      tpm_ak: witness.registered.ak_tpm,
      runtime_policy: runtimePolicy(),
      ima_measurement_list: '10 00 ima-ng sha256:00 x\n',
    },
  };
  const part = fc.dictionary(fc.constantFrom(...Object.keys(good.data), 'tpm_policy', 'mb_policy'), fc.jsonValue());
  await fc.assert(
    fc.asyncProperty(part, fc.oneof(fc.constant('tpm'), fc.jsonValue()), async (changes, type) => {
      const json = { type, data: { ...good.data, ...changes } };
      const { code, text } = await verifier.ask({ method: 'POST', path: '/v2.6/verify/evidence', json, as: 'nobody' });
      assert.ok(code === 200 || (code >= 400 && code < 500) || code === 501, `${code}: ${text}`);
    }),
    { numRuns: 60 },
  );
});

test('evidence that is true is found valid, and with one bit changed it is not', async () => {
  const { ima_measurement_list, quote } = witness.machine.integrityQuote({
    nonce: 'n',
    mask: 0x400,
    partial: false,
    entry: 0,
  });
  const data = {
    quote,
    nonce: 'n',
    hash_alg: 'sha256',
    tpm_ek: 'x',
    tpm_ak: witness.registered.ak_tpm,
    runtime_policy: runtimePolicy(),
    ima_measurement_list,
  };
  const judge = async (changes: object) => {
    const json = { type: 'tpm', data: { ...data, ...changes } };
    return verifier.ask({ method: 'POST', path: '/v2.6/verify/evidence', json, as: 'nobody' });
  };
  const truth = await judge({});
  assert.deepEqual([truth.code, truth.results.valid, truth.results.claims], [200, true, data]);
  for (const [change, type] of [
    [{ nonce: 'm' }, 'qoute_validation.quote_validation'],
    [{ ima_measurement_list: '' }, 'pcr_validation.unused_pcr_10'],
    [{ runtime_policy: runtimePolicy({ digests: {} }) }, 'ima.validation.ima-ng.not_in_allowlist'],
    [{ tpm_policy: { 0: '00'.repeat(32) } }, 'pcr_validation.missing_pcrs'],
  ] as const) {
    const { results } = await judge(change);
    assert.equal(results.valid, false);
    assert.equal((results.failures as readonly { type: string }[])[0]?.type, type);
  }
});

test('[MUST] a flood of evidence is answered with 503 and Retry-After and holds up no agent', async () => {
  const line = `10 ${'00'.repeat(20)} ima-ng sha256:${'00'.repeat(32)} /usr/bin/x\n`;
  const data = {
    ...{ nonce: 'n', hash_alg: 'sha256', tpm_ek: 'x', tpm_ak: witness.registered.ak_tpm },
    quote: witness.machine.integrityQuote({ nonce: 'n', mask: 0x400, partial: false, entry: 0 }).quote,
    runtime_policy: runtimePolicy(),
    ima_measurement_list: line.repeat(8_000),
  };
  const body = JSON.stringify({ type: 'tpm', data });
  const codes: number[] = [];
  const hold = await longestHold(() =>
    Promise.all(
      Array.from({ length: 40 }, async () => {
        const answer = await verifier
          .ask({ method: 'POST', path: '/v2.6/verify/evidence', body, as: 'nobody' })
          .catch((error: NodeJS.ErrnoException) => error);
        // A refused body may be cut off while it is sent.
        if (answer instanceof Error) return assert.match(String(answer.code), /EPIPE|ECONNRESET/);
        codes.push(answer.code);
        if (answer.code === 503) assert.equal(answer.headers['retry-after'], '5');
        else assert.equal(answer.results.valid, false);
      }),
    ),
  );
  assert.ok(codes.includes(503) && codes.includes(200), codes.join());
  assert.ok(
    codes.every((code) => code === 503 || code === 200),
    codes.join(),
  );
  assert.ok(hold < MOST_HOLD_MS, `${hold} ms`);
});

test('[MUST] a stranger cannot hold up agents with bodies that take long to read', async () => {
  const body = `[${'{},'.repeat(8_000_000)}{}]`;
  const hold = await longestHold(() =>
    Promise.all(
      Array.from({ length: 2 }, () =>
        verifier.ask({ method: 'POST', path: '/v2.6/verify/evidence', body, as: 'nobody' }),
      ),
    ),
  );
  assert.ok(hold < MOST_HOLD_MS, `${hold} ms`);
});

test("[MUST] JSON of millions of little things fills no memory, neither a stranger's nor an agent's", async () => {
  const bomb = `{"type":"tpm","data":{},"results":[${'[{}],'.repeat(5_000_000)}0]}`;
  const agent = await verifier.agent('bomb');
  await verifier.enrol(agent);
  await verifier.until('bomb', ({ attestation_count }) => attestation_count > 0);
  const before = process.memoryUsage.rss();
  let most = before;
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 20);
  const answer = await verifier.ask({ method: 'POST', path: '/v2.6/verify/evidence', body: bomb, as: 'nobody' });
  agent.lie({ respond: (_, response) => void response.writeHead(200).end(bomb) });
  const status = await verifier.until('bomb', ({ operational_state }) => operational_state > GET_QUOTE);
  clearInterval(timer);
  assert.equal(answer.code, 400);
  assert.equal(status.last_event_id, 'qoute_validation.invalid_data');
  // Read whole, each would take 600 MB and more; the bodies themselves are held a few times.
  assert.ok(most - before < 400e6, `${Math.round((most - before) / 1e6)} MB`);
});

test('slow and half-open connections keep nobody out', async (t) => {
  const { ca } = verifier;
  const port = verifier.port();
  const sockets: Socket[] = [];
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  for (let n = 0; n < 100; n++) sockets.push(connectTcp({ host: '127.0.0.1', port }));
  for (let n = 0; n < 100; n++) {
    const socket = connectTls({ host: '127.0.0.1', port, ca: ca.certPem });
    await once(socket, 'secureConnect');
    socket.write('POST /v2.6/verify/evidence HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n');
    if (n % 2 === 0) socket.write('\r\n{');
    sockets.push(socket);
  }
  for (const socket of sockets) socket.on('error', () => {});
  const hold = await longestHold(async () => {
    assert.equal((await verifier.ask({ path: '/version', as: 'nobody' })).code, 200);
  });
  assert.ok(hold < MOST_HOLD_MS, `${hold} ms`);
});

test('what is no HTTP is answered with 400 and closed', async (t) => {
  for (const [text, code] of [
    ['GET / HTTP/9.9\r\n\r\n', '400'],
    ['\u0000\u0001\u0002\r\n\r\n', '400'],
    ['GET /version HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n', '400'],
    [`GET /version HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`, '431'],
  ] as const) {
    const answer = await raw(t, text);
    assert.match(answer, new RegExp(`^HTTP/1.1 ${code} `), text.slice(0, 40));
  }
});

/** All that comes back on a TLS connection without a client certificate. */
async function raw(t: TestContext, text: string): Promise<string> {
  const socket = connectTls({ host: '127.0.0.1', port: verifier.port(), ca: verifier.ca.certPem });
  t.after(() => socket.destroy());
  socket.write(text);
  let answer = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    answer += chunk;
  });
  await once(socket, 'close');
  assert.notEqual((socket.address() as AddressInfo).port, 0);
  return answer;
}

test('none of this made the service fail', () => {
  assert.doesNotMatch(verifier.log(), / code=500 /);
  assert.doesNotMatch(verifier.log(), /could not be done: a fault of this service/);
});
