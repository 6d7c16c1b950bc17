import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { testCa } from '@keylime/testing/test-certificates';
import {
  type AttackedVerifier,
  enrolment,
  GET_QUOTE,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Hole 4: who is no administrator reads and changes nothing, whatever certificate, header or parameter is tried, and who
 * is one acts on the agent that the path names.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier();
  for (const id of ['a', 'b']) await verifier.enrol(await verifier.agent(id));
  await verifier.until('b', ({ attestation_count }) => attestation_count > 0);
});
after(() => verifier?.stop());

const ADMIN_REQUESTS: readonly (readonly [method: string, path: string, action: string, authentication: string])[] = [
  ['GET', '/agents', 'list_agents', 'admin authentication (mTLS certificate)'],
  ['GET', '/agents?bulk=True', 'list_agents', 'admin authentication (mTLS certificate)'],
  ['GET', '/agents/a', 'read_agent', 'authentication'],
  ['POST', '/agents/c', 'create_agent', 'admin authentication (mTLS certificate)'],
  ['DELETE', '/agents/a', 'delete_agent', 'admin authentication (mTLS certificate)'],
  ['PUT', '/agents/a/stop', 'stop_agent', 'admin authentication (mTLS certificate)'],
  ['PUT', '/agents/a/reactivate', 'reactivate_agent', 'admin authentication (mTLS certificate)'],
  ['GET', '/allowlists', 'list_ima_policies', 'admin authentication (mTLS certificate)'],
  ['GET', '/allowlists/a', 'read_ima_policy', 'admin authentication (mTLS certificate)'],
  ['POST', '/allowlists/new', 'create_ima_policy', 'admin authentication (mTLS certificate)'],
  ['PUT', '/allowlists/a', 'update_ima_policy', 'admin authentication (mTLS certificate)'],
  ['DELETE', '/allowlists/a', 'delete_ima_policy', 'admin authentication (mTLS certificate)'],
  ['GET', '/notifications', 'list_notifications', 'admin authentication (mTLS certificate)'],
  ['GET', '/notifications/dead', 'list_notifications', 'admin authentication (mTLS certificate)'],
  ['GET', '/notifications/certificates', 'read_notification_certificates', 'admin authentication (mTLS certificate)'],
  ['POST', '/notifications/dead/replay', 'replay_notifications', 'admin authentication (mTLS certificate)'],
  ['DELETE', '/notifications/dead/1', 'discard_notification', 'admin authentication (mTLS certificate)'],
  ['GET', '/mbpolicies', 'list_mb_policies', 'admin authentication (mTLS certificate)'],
  ['GET', '/mbpolicies/a', 'read_mb_policy', 'admin authentication (mTLS certificate)'],
  ['POST', '/mbpolicies/new', 'create_mb_policy', 'admin authentication (mTLS certificate)'],
  ['PUT', '/mbpolicies/a', 'update_mb_policy', 'admin authentication (mTLS certificate)'],
  ['DELETE', '/mbpolicies/a', 'delete_mb_policy', 'admin authentication (mTLS certificate)'],
];

/** Both agents are there and still attested, and nothing was added. */
async function nothingChanged(): Promise<void> {
  const { results } = await verifier.ask({ path: '/v2.6/agents' });
  assert.deepEqual(results, { uuids: [['a'], ['b']] });
  const policies = await verifier.ask({ path: '/v2.6/allowlists' });
  assert.deepEqual(policies.results, { 'runtimepolicy names': ['a', 'b'] });
  const policy = await verifier.ask({ path: '/v2.6/allowlists/a' });
  assert.equal(policy.results.runtime_policy, runtimePolicy());
  for (const id of ['a', 'b']) assert.equal((await verifier.status(id)).operational_state, GET_QUOTE);
}

test('the administrator may', async () => {
  const { code, results } = await verifier.ask({ path: '/v2.6/agents/a' });
  assert.deepEqual([code, results.operational_state], [200, GET_QUOTE]);
});

test('[MUST] without a certificate, or with one that makes no administrator, nothing is read or changed', async () => {
  const { ca } = verifier;
  const oldServer = await ca.issue({ commonNames: ['server'], purpose: 'none', names: ['127.0.0.1'] });
  const oldAgent = await ca.issue({ commonNames: ['a'], purpose: 'none' });
  const nameless = await ca.issue({ purpose: 'clientAuth' });
  const subordinate = await ca.issue({ commonNames: ['client'], purpose: 'clientAuth', isCa: true });
  for (const as of ['nobody', oldServer, oldAgent, nameless, subordinate] as const) {
    for (const version of ['/v2', '/v2.0', '/v2.6']) {
      for (const [method, path, action, wanted] of ADMIN_REQUESTS) {
        const answer = await verifier.ask({ method, path: `${version}${path}`, as });
        const detail = `Action ${action} requires ${wanted}`;
        assert.deepEqual(
          [answer.code, answer.json],
          [403, { errors: [{ status: '403', title: 'Forbidden', detail }] }],
        );
      }
    }
  }
  await nothingChanged();
});

test('[MUST] a certificate of another CA, of the past, or for servers only closes the connection', async () => {
  const past = { notBefore: new Date(Date.now() - 2e9), notAfter: new Date(Date.now() - 1e9) };
  const identities = [
    await (await testCa()).issue({ commonNames: ['client'], purpose: 'clientAuth' }),
    await verifier.ca.issue({ commonNames: ['client'], purpose: 'serverAuth', names: ['127.0.0.1'] }),
    await verifier.ca.issue({ commonNames: ['client'], purpose: 'clientAuth', ...past }),
  ];
  for (const as of identities) {
    for (const [method, path] of ADMIN_REQUESTS) {
      await assert.rejects(verifier.ask({ method, path: `/v2.6${path}`, as }), { code: /ECONNRESET|ERR_SSL|EPIPE/ });
    }
  }
  await nothingChanged();
});

test('[MUST] who sends an Authorization header is not taken for the holder of the certificate', async () => {
  for (const authorization of ['Bearer x', 'Bearer', 'bearer x', 'Basic YTpi', '']) {
    for (const [method, path] of [...ADMIN_REQUESTS, ['GET', '/../version']] as const) {
      const answer = await verifier.ask({ method, path: `/v2.6${path}`, headers: { authorization } });
      assert.equal(answer.code, path.includes('version') ? 404 : 401, `${authorization} ${path}: ${answer.text}`);
    }
  }
  const publicRoute = await verifier.ask({ path: '/version', as: 'nobody', headers: { authorization: 'Bearer x' } });
  assert.equal(publicRoute.code, 401);
  await nothingChanged();
});

test('[MUST] hole 4: parameters do not change which agent is meant', async () => {
  for (const query of ['agents=b', 'agent_id=b', 'agentId=b', 'agents[]=b', 'agents=b&agents=b', '%61gents=b']) {
    const absent = `/v2.6/agents/absent?${query}`;
    for (const [method, path] of [
      ['GET', absent],
      ['DELETE', absent],
      ['PUT', `/v2.6/agents/absent/stop?${query}`],
      ['PUT', `/v2.6/agents/absent/reactivate?${query}`],
    ] as const) {
      const answer = await verifier.ask({ method, path });
      assert.deepEqual([answer.code, answer.status], [404, 'agent id not found'], `${method} ${path}`);
    }
  }
  const c = await verifier.agent('c');
  const added = await verifier.ask({
    method: 'POST',
    path: '/v2.6/agents/c?agents=d',
    json: { ...enrolment(c), agent_id: 'd' },
  });
  assert.equal(added.code, 200);
  const read = await verifier.ask({ path: '/v2.6/agents/c?agents=b' });
  assert.equal(read.results.port, c.port);
  const deleted = await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/c?agents=b' });
  assert.equal(deleted.code, 200);
  await nothingChanged();
});

test('paths in disguise lead nowhere', async () => {
  for (const path of [
    '/v2.6/agents/a%2F..%2Fb',
    '/v2.6//agents/a',
    '//v2.6/agents/a',
    '/V2.6/agents/a',
    '/v2.6/agents/%00',
    '/v2.6/agents/a%00',
    `/v2.6/agents/${'a'.repeat(400)}`,
    '/v2.6/agents/a;b',
    '/v2.6/agents/..',
    '/v2.6/agents/%',
  ]) {
    for (const as of ['nobody', undefined] as const) {
      const answer = await verifier.ask({ method: 'DELETE', path, ...(as && { as }) });
      assert.ok([400, 403, 404].includes(answer.code), `${path}: ${answer.code}`);
    }
  }
  await nothingChanged();
});

test('[MUST] TLS older than 1.2 is not spoken', async () => {
  const options = { host: '127.0.0.1', port: verifier.port(), ca: verifier.ca.certPem, ciphers: 'ALL@SECLEVEL=0' };
  const socket = connect({ ...options, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1' });
  socket.once('secureConnect', () => socket.destroy(new Error(`spoke ${socket.getProtocol()}`)));
  const [error] = await once(socket, 'error');
  assert.equal(error.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
});

test('[MUST] the public routes tell no secret and change nothing', async () => {
  const identity = await verifier.ask({
    path: '/v2.6/verify/identity?agent_uuid=a&quote=r&nonce=n&hash_alg=sha256',
    as: 'nobody',
  });
  assert.deepEqual([identity.code, identity.results.valid], [200, 0]);
  const unknown = await verifier.ask({
    path: '/v2.6/verify/identity?agent_uuid=z&quote=r&nonce=n&hash_alg=sha256',
    as: 'nobody',
  });
  assert.equal(unknown.code, 404);
  const version = await verifier.ask({ path: '/version', as: 'nobody' });
  assert.equal(version.code, 200);
  await nothingChanged();
});
