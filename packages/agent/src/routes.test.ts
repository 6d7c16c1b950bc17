import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AGENT_API_VERSIONS } from '@keylime/api/versions';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { bad, good } from '@keylime/core/parsed';
import { openLog } from '@keylime/service/log';
import { TpmError } from '@keylime/tpm/response-code';
import type { Attester } from './attester.ts';
import type { ListPart } from './measurement-list.ts';
import type { AgentServices } from './routes.ts';
import { buildAgentServer } from './server.ts';

const agentId = parseAgentId('d432fbb3-d2f1-4a97-9ef7-75bd81c00000') as AgentId;
const pem = '-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n';

/** A server whose parts write down the order in which they are asked. */
function serve(overrides: Partial<AgentServices> = {}) {
  const asked: string[] = [];
  const attester: Attester = {
    hashAlg: 'sha256',
    signAlg: 'rsassa',
    encAlg: 'rsa2048',
    akHandle: () => 0x80ff_ffff,
    quote: async ({ nonce, mask }) => {
      asked.push(`quote ${nonce} ${mask.toString(16)}`);
      return 'rAA==:AA==:AA==';
    },
  };
  const services: AgentServices = {
    agentId,
    apiVersions: AGENT_API_VERSIONS,
    attester,
    payloadKeyPem: pem,
    measurementList: {
      readFrom: async (from): Promise<ListPart> => {
        asked.push(`list ${from}`);
        return { firstEntry: from, content: { kind: 'text', text: '10 aa\n' } };
      },
    },
    bootLog: { read: () => Buffer.from('boot'), close: () => {} },
    bootstrap: {
      receiveU: () => good(undefined),
      receiveV: () => good(undefined),
      answer: () => undefined,
      close: async () => {},
    },
    revocations: { offer: async () => true },
    log: openLog({ name: 'test', level: 'critical', destination: { write: () => {} } }),
    ...overrides,
  };
  const app = buildAgentServer(services, undefined);
  const get = async (url: string) => {
    const { statusCode, body } = await app.inject({ method: 'GET', url });
    return { statusCode, json: JSON.parse(body) };
  };
  return { app, asked, get };
}

const INTEGRITY = 'nonce=AbC&mask=0x401&partial=0&ima_ml_entry=3';

test('/version names the newest version and all of them', async () => {
  const { get } = serve();
  assert.deepEqual(await get('/version'), {
    statusCode: 200,
    json: {
      code: 200,
      status: 'Success',
      results: { supported_version: '2.6', supported_versions: ['2.1', '2.2', '2.3', '2.4', '2.5', '2.6'] },
    },
  });
});

test('an integrity quote carries the list, read after the quote, and the boot log if PCR 0 is asked for', async () => {
  const { get, asked } = serve();
  const { statusCode, json } = await get(`/v2.6/quotes/integrity?${INTEGRITY}`);
  assert.equal(statusCode, 200);
  assert.deepEqual(asked, ['quote AbC 401', 'list 3']);
  assert.deepEqual(json.results, {
    quote: 'rAA==:AA==:AA==',
    hash_alg: 'sha256',
    enc_alg: 'rsa2048',
    sign_alg: 'rsassa',
    pubkey: pem,
    mb_measurement_list: Buffer.from('boot').toString('base64'),
    ima_measurement_list_entry: 3,
    ima_measurement_list: '10 aa\n',
  });
});

test('what is not asked for or cannot be opened is left out', async () => {
  const { get } = serve({ measurementList: { readFrom: async () => undefined } });
  const { json } = await get('/v2.6/quotes/integrity?nonce=a&mask=400&partial=1');
  assert.deepEqual(Object.keys(json.results), ['quote', 'hash_alg', 'enc_alg', 'sign_alg']);
});

test('a list in pieces gives the same JSON as a list in one text', async () => {
  const text = '10 "quoted" \\ \u00e9 \udcff\n';
  const released = Promise.withResolvers<void>();
  const content = {
    kind: 'pieces' as const,
    pieces: (function* () {
      yield text;
      yield text;
    })(),
    release: released.resolve,
  };
  const { get } = serve({ measurementList: { readFrom: async () => ({ firstEntry: 0, content }) } });
  const { json } = await get(`/v2.6/quotes/integrity?${INTEGRITY}`);
  assert.equal(json.results.ima_measurement_list, text + text);
  assert.equal(json.results.ima_measurement_list_entry, 0);
  await released.promise;
});

test('key types have their short names before API 2.5', async () => {
  const { get } = serve();
  for (const [version, name] of [
    ['2.1', 'rsa'],
    ['2.4', 'rsa'],
    ['2.5', 'rsa2048'],
    ['2.6', 'rsa2048'],
  ]) {
    assert.equal((await get(`/v${version}/quotes/identity?nonce=a`)).json.results.enc_alg, name);
  }
  assert.equal((await get('/v2.2/agent/info')).json.results.tpm_enc_alg, 'rsa');
});

test('an identity quote is over PCR 16 only and has the public key', async () => {
  const { get, asked } = serve();
  const { json } = await get('/v2.3/quotes/identity?nonce=xyz');
  assert.deepEqual(asked, ['quote xyz 0']);
  assert.equal(json.results.pubkey, pem);
  assert.equal(json.results.ima_measurement_list, undefined);
});

test('agent info is there from API 2.2 on', async () => {
  const { get } = serve();
  assert.deepEqual((await get('/v2.6/agent/info')).json.results, {
    agent_uuid: agentId,
    tpm_hash_alg: 'sha256',
    tpm_enc_alg: 'rsa2048',
    tpm_sign_alg: 'rsassa',
    ak_handle: 0x80ff_ffff,
  });
  const { statusCode, json } = await get('/v2.1/agent/info');
  assert.equal(statusCode, 400);
  assert.equal(json.status, 'Not Implemented: Use /agent, /keys, or /quotes interfaces');
});

test('a fault of TPM or list is a 500 that says nothing of its cause', async () => {
  const failing: Attester = { ...serveAttester(), quote: async () => Promise.reject(new Error('the TPM is on fire')) };
  const expected = { code: 500, status: 'Unable to retrieve quote', results: {} };
  const first = serve({ attester: failing });
  assert.deepEqual((await first.get('/v2.6/quotes/identity?nonce=a')).json, expected);
  assert.deepEqual((await first.get(`/v2.6/quotes/integrity?${INTEGRITY}`)).json, expected);
  const list = { readFrom: async () => Promise.reject(new Error('EIO')) };
  assert.deepEqual((await serve({ measurementList: list }).get(`/v2.6/quotes/integrity?${INTEGRITY}`)).json, expected);
});

test('a nonce that is too long for the TPM is the mistake of the caller', async () => {
  const attester: Attester = { ...serveAttester(), quote: async () => Promise.reject(new TpmError('Quote', 0x1d5)) };
  const { statusCode, json } = await serve({ attester }).get('/v2.6/quotes/identity?nonce=a');
  assert.deepEqual([statusCode, json.status], [400, 'Nonce is too long for this TPM']);
});

const serveAttester = (): Attester => ({
  hashAlg: 'sha256',
  signAlg: 'rsassa',
  encAlg: 'rsa2048',
  akHandle: () => 1,
  quote: async () => '',
});

test('keys: the public key, and no bootstrap key yet', async () => {
  const { get } = serve();
  assert.deepEqual((await get('/v2.6/keys/pubkey')).json.results, { pubkey: pem });
  for (const [query, status] of [
    ['?challenge=abc', 'Bootstrap key not yet available.'],
    ['?challenge=', 'No challenge provided.'],
    ['?challenge=a-b', 'Parameters should be strictly alphanumeric: a-b'],
    ['', 'Query deserialize error: missing field `challenge`'],
  ]) {
    const { statusCode, json } = await get(`/v2.6/keys/verify${query}`);
    assert.deepEqual([statusCode, json], [400, { code: 400, status, results: {} }]);
  }
});

test('what the halves of a payload key are told, with the null that existing agents answer', async () => {
  const bodies: unknown[] = [];
  const refuse = 'Failed to decrypt encrypted_key: it was not encrypted for this payload key';
  const { app, get } = serve({
    bootstrap: {
      receiveU: (body) => {
        bodies.push(body);
        return good(undefined);
      },
      receiveV: () => bad(refuse),
      answer: (challenge) => `hmac of ${challenge}`,
      close: async () => {},
    },
  });
  const payload = { encrypted_key: 'AA==' };
  const u = await app.inject({ method: 'POST', url: '/v2.6/keys/ukey', payload });
  assert.deepEqual([u.statusCode, u.json()], [200, { code: 200, status: 'Success', results: null }]);
  assert.deepEqual(bodies, [payload]);
  const v = await app.inject({ method: 'POST', url: '/v2.1/keys/vkey', payload });
  assert.deepEqual([v.statusCode, v.json()], [400, { code: 400, status: refuse, results: {} }]);
  assert.deepEqual((await get('/v2.6/keys/verify?challenge=abc')).json.results, { hmac: 'hmac of abc' });
});

test('a revocation is taken, refused if it is none, and turned away with 503 while too many wait', async () => {
  let hasRoom = true;
  const { app } = serve({ revocations: { offer: async () => hasRoom } });
  const post = async (payload: object) => {
    const answer = await app.inject({ method: 'POST', url: '/v2.6/notifications/revocation', payload });
    return { status: answer.statusCode, json: answer.json(), retryAfter: answer.headers['retry-after'] };
  };
  const taken = await post({ msg: '{}', signature: '' });
  assert.deepEqual([taken.status, taken.json], [200, { code: 200, status: 'Success', results: null }]);
  for (const [body, status] of [
    [{ msg: '{}' }, 'Json deserialize error: missing field `signature`'],
    [{ msg: {}, signature: '' }, 'Json deserialize error: field `msg` must be a string'],
    [[], 'Json deserialize error: expected an object'],
    [{ msg: 'x'.repeat(300_000), signature: '' }, 'The message is longer than 262144 characters'],
  ] as const) {
    const refused = await post(body);
    assert.deepEqual([refused.status, refused.json.status], [400, status]);
  }
  hasRoom = false;
  const full = await post({ msg: '{}', signature: '' });
  assert.deepEqual([full.status, full.retryAfter], [503, '10']);
});

test('a wrong query is a 400 with the text that peers know', async () => {
  const { get } = serve();
  const { statusCode, json } = await get('/v2.6/quotes/integrity?nonce=a&mask=zz&partial=0');
  assert.deepEqual(
    [statusCode, json],
    [400, { code: 400, status: 'mask should be a hex encoded 32-bit integer: zz', results: {} }],
  );
});

test('unknown versions and paths are told apart as the existing agent does', async () => {
  const { get } = serve({ apiVersions: ['2.5', '2.6'] });
  for (const [url, status] of [
    ['/v9.9/quotes/identity?nonce=a', 'API version not supported: v9.9'],
    ['/v2.1/agent/info', 'API version not supported: v2.1'],
    ['/v3.0/', 'API version not supported: v3.0'],
    ['/v9/agent', 'Not Implemented: Use /2.5, /2.6 or /version interfaces'],
    ['/', 'Not Implemented: Use /2.5, /2.6 or /version interfaces'],
    ['/v2.6', 'Not Implemented: Use /agent, /keys, or /quotes interfaces'],
    ['/v2.6/other/x', 'Not Implemented: Use /agent, /keys, or /quotes interfaces'],
    ['/v2.6/constructor/x', 'Not Implemented: Use /agent, /keys, or /quotes interfaces'],
    ['/v2.6/keys/other', 'URI not supported, only /pubkey and /verify are supported for GET in /keys interface'],
  ]) {
    const { statusCode, json } = await get(url ?? '');
    assert.deepEqual([statusCode, json], [400, { code: 400, status, results: {} }], url);
  }
});

test('a wrong method on a resource says which one is right', async () => {
  const { app } = serve();
  for (const [method, url, allow] of [
    ['POST', '/v2.6/quotes/identity', 'GET'],
    ['DELETE', '/v2.6/keys/ukey', 'POST'],
    ['HEAD', '/version', 'GET'],
    ['PUT', '/nowhere', 'GET, POST'],
  ] as const) {
    const { statusCode, headers } = await app.inject({ method, url });
    assert.deepEqual([statusCode, headers.allow], [405, allow], `${method} ${url}`);
  }
});

test('malformed JSON is a 400, and a body that is too large is refused', async () => {
  const { app } = serve();
  const headers = { 'content-type': 'application/json' };
  const bad = await app.inject({ method: 'POST', url: '/v2.6/keys/ukey', headers, payload: '{' });
  assert.equal(bad.statusCode, 400);
  const large = await app.inject({ method: 'POST', url: '/v2.6/keys/ukey', headers, payload: ' '.repeat(2 ** 21 + 1) });
  assert.equal(large.statusCode, 413);
});
