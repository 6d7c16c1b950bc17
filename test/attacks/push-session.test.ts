import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { proofAttributes, sessionRequestAttributes } from '@keylime/api/push-session';
import { isJsonObject } from '@keylime/core/json';
import { certify } from '@keylime/tpm/iak';
import { parseQuote } from '@keylime/tpm/quote';
import { quotePcrs } from '@keylime/tpm/quote-device';
import { attributesOf, type PushMachine, refusalOf, startPushMachine } from './push-harness.ts';
import { type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

let verifier: AttackedVerifier;
let machine: PushMachine;
let other: PushMachine;

before(async () => {
  verifier = await startAttackedVerifier({
    settings: { mode: 'push', quote_interval: '0', session_create_rate_limit_per_agent: '6' },
  });
  machine = await startPushMachine(verifier, 'machine');
  other = await startPushMachine(verifier, 'other');
  await machine.enrol();
  await other.enrol();
});
after(async () => {
  await machine.stop();
  await other.stop();
  await verifier.stop();
});

const sessionIdOf = ({ json }: { readonly json: { readonly [key: string]: unknown } }): string =>
  isJsonObject(json.data) ? String(json.data.id) : '';

async function begin(agentId = 'machine') {
  const begun = await machine.send('POST', '/v3.0/sessions', sessionRequestAttributes(agentId), { headers: JSON_TYPE });
  assert.equal(begun.code, 200, begun.text);
  const [requested] = attributesOf(begun).authentication_requested as readonly {
    readonly chosen_parameters: { readonly challenge: string };
  }[];
  const challenge = Buffer.from(requested?.chosen_parameters.challenge ?? '', 'base64');
  return { id: sessionIdOf(begun), challenge, attributes: attributesOf(begun) };
}

const JSON_TYPE = { 'content-type': 'application/json' };
const prove = (sessionId: string, attributes: object) =>
  machine.send('PATCH', `/v3/sessions/${sessionId}`, attributes, { headers: JSON_TYPE });
const proofOf = (one: PushMachine, qualifyingData: Uint8Array) =>
  certify(one.tpm(), { object: one.ak(), signer: one.ak(), qualifyingData });
const statusWith = (token: string, id = 'machine') =>
  verifier.ask({ path: `/v2.6/agents/${id}`, as: 'nobody', headers: { authorization: token } });

test('a machine whose TPM holds the enrolled AK gets a token, and reads its own status with it', async () => {
  const proved = await machine.login();
  assert.equal(proved.code, 200);
  const { evaluation, token, token_expires_at: expires, authentication } = attributesOf(proved);
  assert.equal(evaluation, 'pass');
  assert.match(String(token), /^[0-9a-f-]{36}\.[A-Za-z0-9_-]{43}$/);
  assert.match(String(expires), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/);
  assert.ok(Array.isArray(authentication) && isJsonObject(authentication[0]) && isJsonObject(authentication[0].data));
  assert.equal((await statusWith(`Bearer ${token}`)).code, 200);
});

test('the challenge has 16 bytes, lives a minute, and is given to anybody', async () => {
  const { challenge, attributes } = await begin('nobody-of-this-name');
  assert.equal(challenge.length, 16);
  const lifetime = Date.parse(String(attributes.challenges_expire_at)) - Date.parse(String(attributes.created_at));
  assert.equal(lifetime, 60_000);
});

test('[MUST] tokens: none, of another form, unknown, with another secret, of a session that was not proved', async () => {
  await machine.login();
  const { token } = machine;
  const pending = await begin();
  const cases: readonly (readonly [header: string, detail: string])[] = [
    [`bearer ${token}`, 'Invalid Authorization header format'],
    [`Basic ${token}`, 'Invalid Authorization header format'],
    [`Bearer  ${token}`, 'Invalid Authorization header format'],
    [`Bearer ${token}x`, 'Invalid authentication token'],
    [`Bearer ${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`, 'Invalid authentication token'],
    [`Bearer x${token}`, 'Invalid authentication token'],
    [`Bearer ${pending.id}.AAAA`, 'Authentication session not active'],
  ];
  for (const [header, detail] of cases) {
    assert.deepEqual(refusalOf(await statusWith(header)), [401, 'Unauthorized', detail], header);
  }
});

test('[MUST] a token is good for its own agent and no other, and never beside an administrator’s certificate', async () => {
  await machine.login();
  const refused = await statusWith(`Bearer ${machine.token}`, 'other');
  const detail = 'Agent machine cannot access resource other (ownership required)';
  assert.deepEqual(refusalOf(refused), [403, 'Forbidden', detail]);
  const withBoth = await verifier.ask({
    path: '/v2.6/agents',
    headers: { authorization: `Bearer ${machine.token}` },
  });
  assert.equal(withBoth.code, 403);
  const wrongToken = await verifier.ask({ path: '/v2.6/agents', headers: { authorization: 'Bearer x.y' } });
  assert.equal(wrongToken.code, 401);
});

test('[MUST] proofs that are refused: other nonce, other key, a quote, another agent’s session, nothing', async () => {
  const quote = async (nonce: Uint8Array) => {
    const parts = parseQuote(await quotePcrs(machine.tpm(), { ak: machine.ak(), nonce, mask: 1 }));
    assert.ok('attest' in parts);
    return proofAttributes('machine', parts.attest, parts.signature);
  };
  const proof = async (one: PushMachine, data: Uint8Array) => {
    const { attest, signature } = await proofOf(one, data);
    return proofAttributes('machine', attest, signature);
  };
  const cases: readonly (readonly [name: string, make: (challenge: Buffer) => Promise<object> | object])[] = [
    ['other nonce', () => proof(machine, Buffer.alloc(16))],
    ['nonce as text', (challenge) => proof(machine, Buffer.from(challenge.toString('base64')))],
    ['other key', (challenge) => proof(other, challenge)],
    ['a quote', (challenge) => quote(challenge)],
    ['nothing', () => ({ agent_id: 'machine', authentication_provided: [] })],
    ['no base64', () => proofAttributes('machine', Buffer.alloc(0), Buffer.alloc(0))],
  ];
  await machine.login();
  const { token } = machine;
  for (const [name, make] of cases) {
    const session = await begin();
    const answer = await prove(session.id, await make(session.challenge));
    assert.equal(answer.code, 401, name);
    assert.deepEqual([attributesOf(answer).evaluation, attributesOf(answer).token], ['fail', undefined], name);
    const again = await proof(machine, session.challenge);
    assert.deepEqual(refusalOf(await prove(session.id, again)), [404, 'Not Found', 'Session not found'], name);
  }
  // Six wrong proofs for this agent from this address are enough for a minute.
  const limited = await begin();
  const refused = await prove(limited.id, await proof(machine, limited.challenge));
  assert.equal(refused.code, 429);
  assert.ok(Number(refused.headers['retry-after']) >= 1);
  // [MUST] None of that logged the agent out.
  assert.equal((await statusWith(`Bearer ${token}`)).code, 200);
});

test('[MUST] a challenge is answered once, by the agent that asked for it', async () => {
  const session = await begin('other');
  const { attest, signature } = await proofOf(other, session.challenge);
  const attributes = proofAttributes('other', attest, signature);
  const mixed = await prove(session.id, { ...attributes, agent_id: 'machine' });
  assert.deepEqual(refusalOf(mixed), [400, 'Bad Request', 'Agent ID mismatch']);
  assert.equal(attributesOf(await prove(session.id, attributes)).evaluation, 'pass');
  assert.equal((await prove(session.id, attributes)).code, 409);
  const replayed = await begin('other');
  const answer = await prove(replayed.id, attributes);
  assert.deepEqual([answer.code, attributesOf(answer).evaluation], [401, 'fail']);
});

test('a new login ends the token before it', async () => {
  await other.login();
  const first = other.token;
  await other.login();
  assert.equal((await statusWith(`Bearer ${first}`, 'other')).code, 401);
  assert.equal((await statusWith(`Bearer ${other.token}`, 'other')).code, 200);
});

test('an agent that is not enrolled is told so by evaluation, and nothing is left of its session', async () => {
  const session = await begin('stranger');
  const { attest, signature } = await proofOf(other, session.challenge);
  const attributes = proofAttributes('stranger', attest, signature);
  const answer = await prove(session.id, attributes);
  assert.deepEqual(
    [answer.code, attributesOf(answer).evaluation, attributesOf(answer).token],
    [200, 'fail', undefined],
  );
  assert.equal((await prove(session.id, attributes)).code, 404);
});

test('[MUST] a token does not outlive the enrolment of its agent, and is worth nothing with another AK', async () => {
  const short = await startPushMachine(verifier, 'short');
  try {
    await short.enrol();
    await short.login();
    assert.equal((await statusWith(`Bearer ${short.token}`, 'short')).code, 200);
    assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/short' })).code, 200);
    assert.equal((await statusWith(`Bearer ${short.token}`, 'short')).code, 401);
    await short.enrol();
    assert.equal((await statusWith(`Bearer ${short.token}`, 'short')).code, 401);
  } finally {
    await short.stop();
  }
});

test('requests for a session that are malformed are answered 400, each with its reason', async () => {
  const ask = (body: unknown) =>
    verifier.ask({ method: 'POST', path: '/v3.0/sessions', json: body, as: 'nobody', headers: JSON_TYPE });
  const session = (attributes: unknown, more = {}) => ({ data: { type: 'session', attributes, ...more } });
  const cases: readonly (readonly [body: unknown, detail: RegExp])[] = [
    [{}, /Malformed Request Parameter: data/],
    [session({}), /attributes/],
    [session({ agent_id: null }), /null/],
    [session({ other: 1 }), /agent_id is required/],
    [session({ agent_id: '' }), /agent_id is required/],
    [session({ agent_id: 'a' }), /authentication_supported must include tpm_pop/],
    [session({ agent_id: 'a', authentication_supported: [] }), /authentication_supported must include tpm_pop/],
    [session({ agent_id: 'a', authentication_supported: 'tpm_pop' }), /authentication_supported must include tpm_pop/],
    [session({ agent_id: 'a' }, { surprise: 1 }), /unknown member/],
    [{ data: { type: 'attestation', attributes: { agent_id: 'a' } } }, /data.type must be session/],
  ];
  for (const [body, detail] of cases) {
    const [code, , text] = refusalOf(await ask(body));
    assert.equal(code, 400, JSON.stringify(body));
    assert.match(String(text), detail);
  }
});

test('[MUST] bodies of strangers are short: what is longer is refused before it is read', async () => {
  for (const [method, path] of [
    ['POST', '/v3.0/sessions'],
    ['PATCH', '/v3.0/sessions/00000000-0000-4000-8000-000000000000'],
  ] as const) {
    const ask = (length: number) =>
      verifier.ask({ method, path, body: '{'.padEnd(length), as: 'nobody', headers: JSON_TYPE });
    assert.equal((await ask(65_536)).code, 400, 'no JSON');
    assert.equal((await ask(65_537)).code, 413);
  }
});

test('one slash too many before the path is forgiven, as existing agents put it', async () => {
  const answer = await machine.send('POST', '//v3.0/sessions', sessionRequestAttributes('machine'));
  assert.equal(answer.code, 200, answer.text);
});

test('a verifier that agents push to says 410 to who negotiates, and answers the roots of its versions', async () => {
  for (const path of ['/version', '/versions']) {
    const answer = await verifier.ask({ path, as: 'nobody' });
    assert.deepEqual([answer.code, answer.status, answer.results], [410, 'Gone', {}]);
  }
  for (const path of ['/v3/', '/v3.0/', '/v2.6/']) {
    assert.equal((await verifier.ask({ path, as: 'nobody' })).code, 200, path);
  }
});
