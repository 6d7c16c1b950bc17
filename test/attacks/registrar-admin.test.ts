import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { softwareTpm } from '@keylime/registrar/forge-registration';
import { type RegistrarProcess, startRegistrarProcess } from '@keylime/registrar/registrar-process';
import { testCa } from '@keylime/testing/test-certificates';

/*
 * Hole 4: who is no administrator reads, lists and deletes nothing, whatever certificate, header or parameter is tried.
 * Each agent of these tests is there, so that a request that got through would show.
 */
let registrar: RegistrarProcess;
before(async () => {
  registrar = await startRegistrarProcess();
  const tpm = softwareTpm();
  for (const id of ['a', 'b']) {
    const path = `/v2.6/agents/${id}`;
    const registered = await registrar.ask({ method: 'POST', path, json: tpm.body() });
    const auth_tag = tpm.answer(String(registered.results.blob), id);
    assert.equal((await registrar.ask({ method: 'PUT', path, json: { auth_tag } })).code, 200);
  }
});
after(() => registrar?.stop());

const ADMIN_REQUESTS = [
  ['GET', '/agents', 'list_registrations'],
  ['GET', '/agents/a', 'read_registration'],
  ['DELETE', '/agents/a', 'delete_registration'],
] as const;
const everything = () =>
  ['/v2', '/v2.0', '/v2.6', '/v3', '/v3.0'].flatMap((version) =>
    ADMIN_REQUESTS.map(([method, path, action]) => ({ method, path: `${version}${path}`, action })),
  );
const bothAreThere = async () => {
  const { results } = await registrar.ask({ method: 'GET', path: '/v2.6/agents', as: registrar.admin });
  assert.deepEqual(results, { uuids: ['a', 'b'] });
};

test('the administrator may', async () => {
  const { code, results } = await registrar.ask({ method: 'GET', path: '/v2.6/agents/a', as: registrar.admin });
  assert.deepEqual([code, results.agent_id], [200, 'a']);
});

test('[MUST] without a client certificate, or with one that is not for clients, nothing is read or deleted', async () => {
  const oldServer = await registrar.ca.issue({ commonNames: ['server'], purpose: 'none' });
  const agents = await registrar.ca.issue({ commonNames: ['a'], purpose: 'none' });
  const nameless = await registrar.ca.issue({ purpose: 'clientAuth' });
  for (const as of ['nobody', oldServer, agents, nameless] as const) {
    for (const { method, path, action } of everything()) {
      const answer = await registrar.ask({ method, path, as });
      assert.equal(answer.code, 403, `${method} ${path}: ${answer.text}`);
      const detail = `Action ${action} requires admin authentication (mTLS certificate)`;
      assert.deepEqual(answer.json, { errors: [{ status: '403', title: 'Forbidden', detail }] });
    }
  }
  await bothAreThere();
});

test('[MUST] a certificate of another CA, or one for servers only, closes the connection, however it calls itself', async () => {
  const stranger = await (await testCa()).issue({ commonNames: ['client'], purpose: 'clientAuth' });
  const server = await registrar.ca.issue({ commonNames: ['client'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  for (const as of [stranger, server]) {
    for (const { method, path } of everything()) {
      await assert.rejects(registrar.ask({ method, path, as }), { code: /ECONNRESET|ERR_SSL|EPIPE/ });
    }
  }
  await bothAreThere();
});

test('[MUST] the plain port serves no administrator, in JSON', async () => {
  for (const { method, path } of everything()) {
    const answer = await registrar.ask({ method, path });
    assert.deepEqual([answer.code, answer.json.code, answer.json.results], [400, 400, {}], answer.text);
  }
  await bothAreThere();
});

test('[MUST] an Authorization header takes the rights of the certificate away', async () => {
  for (const authorization of ['Bearer token', 'bearer token', 'Basic YTpi', '']) {
    const answer = await registrar.ask({
      method: 'DELETE',
      path: '/v2.6/agents/a',
      as: registrar.admin,
      headers: { authorization },
    });
    assert.equal(answer.code, 401, answer.text);
    assert.ok(Array.isArray(answer.json.errors));
  }
  await bothAreThere();
});

test('[MUST] the agent of the path is the one that is read and deleted, whatever the query and the body say', async () => {
  for (const query of ['agents=b', 'agent_id=b', 'agentId=b', 'id=b&agents=b']) {
    const read = await registrar.ask({ method: 'GET', path: `/v2.6/agents/a?${query}`, as: registrar.admin });
    assert.deepEqual([read.code, read.results.agent_id], [200, 'a']);
    const absent = await registrar.ask({ method: 'DELETE', path: `/v2.6/agents/absent?${query}`, as: registrar.admin });
    assert.equal(absent.code, 404);
    const list = await registrar.ask({ method: 'GET', path: `/v2.6/agents?${query}`, as: registrar.admin });
    assert.deepEqual(list.results, { uuids: ['a', 'b'] });
  }
  const tpm = softwareTpm();
  const registered = await registrar.ask({
    method: 'POST',
    path: '/v2.6/agents/c?agents=b',
    json: tpm.body({ agent_id: 'b' }),
  });
  assert.equal(registered.code, 200, 'registered as c; as b it would have been another TPM');
  await registrar.ask({ method: 'DELETE', path: '/v2.6/agents/c', as: registrar.admin });
  await bothAreThere();
});

test('paths in disguise lead nowhere', async () => {
  for (const path of [
    '/v2.6/agents/a%2F..%2Fb',
    '/v2.6//agents/a',
    '//v2.6/agents/a',
    '/v2.6/agents/../agents/a',
    '/V2.6/agents/a',
  ]) {
    const answer = await registrar.ask({ method: 'DELETE', path, as: 'nobody' });
    assert.ok([400, 403, 404].includes(answer.code), `${path}: ${answer.code}`);
  }
  await bothAreThere();
});
