import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentRegistration } from '@keylime/api/agent/registration';
import { failure, success } from '@keylime/api/envelope';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { type RegistrarAnswer, type RegistrarRequest, type Registration, register } from './registrar.ts';

const agentId = parseAgentId('d432fbb3-d2f1-4a97-9ef7-75bd81c00000') as AgentId;
const versions = { current_version: '2.6', supported_versions: ['1.0', '2.0', '2.5', '2.6', '3.0'] };

const answer = (status: number, body: unknown, retryAfter?: string): RegistrarAnswer => ({
  status,
  body: typeof body === 'string' ? body : JSON.stringify(body),
  retryAfter,
});
const challenge = answer(200, success({ blob: 'AQID' }));
const activated = answer(200, success({}));

type Answers = { readonly [request: string]: RegistrarAnswer };

/** A registrar that gives prepared answers and notes what it was sent. */
function registrar(answers: Answers) {
  const sent: string[] = [];
  const request: RegistrarRequest = async ({ method, path, json }) => {
    sent.push(`${method} ${path}${json === undefined ? '' : ` ${Object.keys(json as object)}`}`);
    return answers[`${method} ${path}`] ?? answer(404, failure(404));
  };
  const asked: string[] = [];
  const registration: Registration = {
    agentId,
    apiVersions: ['2.4', '2.5', '2.6'],
    body: async (qualifying) => {
      asked.push(qualifying);
      return { ip: '127.0.0.1' } as AgentRegistration;
    },
    answer: async (blob) => `tag of ${blob.toString('hex')}`,
  };
  return { sent, asked, run: () => register(request, registration) };
}

const at = (version: string) => `/v${version}/agents/${agentId}`;

test('registration and activation go to the same path with POST and PUT', async () => {
  const { sent, asked, run } = registrar({
    'GET /version': answer(200, success(versions)),
    [`POST ${at('2.6')}`]: challenge,
    [`PUT ${at('2.6')}`]: activated,
  });
  assert.deepEqual(await run(), { apiVersion: '2.6' });
  assert.deepEqual(sent, ['GET /version', `POST ${at('2.6')} ip`, `PUT ${at('2.6')} auth_tag`]);
  assert.deepEqual(asked, ['digest']);
});

test('an older registrar is spoken to in the newest common version, and the IAK certifies the id itself', async () => {
  const { asked, run } = registrar({
    'GET /version': answer(200, success({ current_version: '2.3', supported_versions: ['2.0', '2.4', '2.5'] })),
    [`POST ${at('2.5')}`]: challenge,
    [`PUT ${at('2.5')}`]: activated,
  });
  assert.deepEqual(await run(), { apiVersion: '2.5' });
  assert.deepEqual(asked, ['id']);
});

test('a registrar without GET /version is tried from the newest version to the oldest', async () => {
  const { sent, run } = registrar({ [`POST ${at('2.4')}`]: challenge, [`PUT ${at('2.4')}`]: activated });
  assert.deepEqual(await run(), { apiVersion: '2.4' });
  assert.deepEqual(
    sent.map((one) => one.split(' ').slice(0, 2).join(' ')),
    ['GET /version', `POST ${at('2.6')}`, `POST ${at('2.5')}`, `POST ${at('2.4')}`, `PUT ${at('2.4')}`],
  );
});

test('a registrar without a common version is a mistake of the configuration', async () => {
  const { run } = registrar({
    'GET /version': answer(200, success({ current_version: '3.0', supported_versions: ['3.0'] })),
  });
  await assert.rejects(run(), { code: 'api_version_unsupported' });
});

test('403 stops at once, names the way out, and no other version is tried', async () => {
  const { sent, run } = registrar({ [`POST ${at('2.6')}`]: answer(403, failure(403, 'different TPM identity')) });
  await assert.rejects(run(), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'registration_refused');
    assert.match(error.message, /different TPM identity/);
    assert.match(error.message, /regdelete -u d432fbb3/);
    return true;
  });
  assert.equal(sent.length, 2);
});

test('a refusal of the data is not tried again', async () => {
  const { run } = registrar({
    'GET /version': answer(200, success(versions)),
    [`POST ${at('2.6')}`]: answer(400, failure(400, 'Could not register agent with invalid data')),
  });
  await assert.rejects(run(), { code: 'registration_refused', message: /invalid data/ });
});

test('a registrar that is away, busy or broken is tried again later', async () => {
  const down: RegistrarRequest = async () => {
    throw new Error('connect ECONNREFUSED');
  };
  const { run } = registrar({});
  assert.ok(run);
  const registration: Registration = {
    agentId,
    apiVersions: ['2.6'],
    body: async () => ({}) as never,
    answer: async () => '',
  };
  await assert.rejects(register(down, registration), { code: 'retry_later', message: /ECONNREFUSED/ });
  for (const status of [500, 503, 408, 429]) {
    const busy = registrar({ 'GET /version': answer(status, '', '7') });
    await assert.rejects(busy.run(), { code: 'retry_later', afterMs: 7000 });
  }
});

test('an activation that is not accepted starts over with a new challenge', async () => {
  for (const reply of [answer(400, failure(400, 'Auth tag')), answer(404, failure(404)), answer(200, success(null))]) {
    const { run } = registrar({
      'GET /version': answer(200, success(versions)),
      [`POST ${at('2.6')}`]: challenge,
      [`PUT ${at('2.6')}`]: reply,
    });
    await assert.rejects(run(), { code: 'retry_later' });
  }
});

test('an answer without a challenge is no registrar', async () => {
  for (const body of ['<html>', success({}), success({ blob: '***' }), success({ blob: 7 }), success(null), '[]']) {
    const { run } = registrar({
      'GET /version': answer(200, success(versions)),
      [`POST ${at('2.6')}`]: answer(200, body),
    });
    await assert.rejects(run(), { code: 'registration_refused', message: /no challenge/ });
  }
});
