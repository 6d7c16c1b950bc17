import assert from 'node:assert/strict';
import { test } from 'node:test';
import { documentOf, resource, sessionProblemDocument } from '@keylime/api/push-document';
import { sessionAttributes } from '@keylime/api/push-session';
import { parseAgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import { softwareAk } from '@keylime/testing/software-ak';
import { verifyCertify } from '@keylime/tpm/certify';
import { objectName } from '@keylime/tpm/public';
import { openPushSession } from './push-session.ts';
import type { VerifierAnswer, VerifierRequest } from './verifier-client.ts';

const agentId = parseAgentId('d432fbb3-d2f1-4a97-9ef7-75bd81c00000') ?? assert.fail();
const SESSION = '0b9e5f0e-6f1c-4f43-8a0e-1f2d3c4b5a69';
const NONCE = Buffer.from('q83vEjRWeJCrze8SNFZ4kA==', 'base64');
const ak = softwareAk();
const name = objectName(ak.public);

const answer = (status: number, body: object): VerifierAnswer => ({
  ...{ status, body: body as Json, location: undefined, text: `${status}` },
});
const times = { createdAtMs: 0, challengeExpiresAtMs: 60_000 };
const offered = (challenge: Uint8Array = NONCE, id = SESSION) =>
  answer(200, documentOf(resource('session', id, sessionAttributes(agentId, challenge, times))));
const proved = (attributes: object, status = 200) =>
  answer(status, documentOf(resource('session', SESSION, { agent_id: agentId, ...attributes })));
const granted = (token: string) => proved({ evaluation: 'pass', token });

/** A session whose verifier gives these answers, one after the other. */
function session(...answers: readonly VerifierAnswer[]) {
  const asked: Parameters<VerifierRequest>[0][] = [];
  const send: VerifierRequest = async (request) => {
    asked.push(request);
    return answers[asked.length - 1] ?? assert.fail('one request too many');
  };
  const attester = { certifyAk: async (data: Uint8Array) => ak.certify(name, data) };
  const { request } = openPushSession({ agentId, attester, send });
  return { asked, attest: () => request({ method: 'POST', path: '/x', json: {} }) };
}

test('the proof certifies the AK by itself over the decoded challenge', async () => {
  const { asked, attest } = session(offered(), granted('a.b'), answer(201, {}));
  assert.equal((await attest()).status, 201);
  assert.deepEqual(
    asked.map(({ method, path, token }) => [method, path, token]),
    [
      ['POST', '/v3.0/sessions', undefined],
      ['PATCH', `/v3.0/sessions/${SESSION}`, undefined],
      ['POST', '/x', 'a.b'],
    ],
  );
  const [, sent] = asked.map(
    ({ json }) => json as { data: { attributes: { authentication_provided: { data: Record<string, string> }[] } } },
  );
  const proof = sent?.data.attributes.authentication_provided[0]?.data ?? {};
  const [attestBytes, signature] = [proof.message, proof.signature].map((text) => Buffer.from(text ?? '', 'base64'));
  assert.ok(attestBytes && signature);
  const signer = ak.public;
  assert.ok(verifyCertify({ attest: attestBytes, signature, signer, qualifyingData: [NONCE], certifiedName: name }).ok);
});

test('a token is used until the verifier refuses it; a session that was just begun and is refused is no session', async () => {
  const { asked, attest } = session(
    ...[offered(), granted('a.1'), answer(201, {}), answer(202, {}), answer(401, {})],
    ...[offered(), granted('a.2'), answer(401, {})],
  );
  await attest();
  await attest();
  await assert.rejects(attest(), { name: 'PushError', code: 'not_admitted' });
  assert.deepEqual(
    asked.flatMap(({ token = [] }) => token),
    ['a.1', 'a.1', 'a.1', 'a.2'],
  );
});

test('403 is an answer, and the session is not used any more', async () => {
  const { asked, attest } = session(
    ...[offered(), granted('a.1'), answer(403, {}), offered(), granted('a.2'), answer(201, {})],
  );
  assert.equal((await attest()).status, 403);
  assert.equal((await attest()).status, 201);
  assert.equal(asked.at(-1)?.token, 'a.2');
});

test('only a pass with a token is a session, whatever the status', async () => {
  for (const refusal of [
    proved({ evaluation: 'fail' }),
    proved({ evaluation: 'fail' }, 401),
    proved({ evaluation: 'pass' }),
    proved({ evaluation: 'fail', token: 'a.b' }),
    proved({ evaluation: 'pass', token: 'a.b' }, 401),
    answer(404, sessionProblemDocument(404, 'Session not found')),
    answer(200, {}),
  ]) {
    await assert.rejects(session(offered(), refusal).attest(), { code: 'not_admitted' });
  }
  await assert.rejects(session(answer(400, {})).attest(), { code: 'not_admitted' });
});

test('what is no challenge, no session id and no token is told as such', async () => {
  const odd = documentOf(resource('session', SESSION, { agent_id: agentId, authentication_requested: [] }));
  for (const beginning of [offered(Buffer.alloc(0)), offered(NONCE, '../agents'), answer(200, odd), answer(200, {})]) {
    await assert.rejects(session(beginning).attest(), { code: 'answer_malformed' });
  }
  for (const token of ['a b', 'a\nX: y', 'é']) {
    const malformed = { code: 'answer_malformed', message: /^((?!a b|X: y|é).)*$/s };
    await assert.rejects(session(offered(), granted(token)).attest(), malformed);
  }
});
