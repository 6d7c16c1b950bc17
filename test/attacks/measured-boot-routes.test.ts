import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { type AttackedVerifier, enrolment, startAttackedVerifier } from './verifier-harness.ts';

/* What operators do with measured-boot policies, and what of it is refused. */
let verifier: AttackedVerifier;
let agent: LyingAgent;
before(async () => {
  verifier = await startAttackedVerifier();
  agent = await verifier.agent('mb');
});
after(() => verifier?.stop());

const REFERENCE = '{"kernels": [{"kernel_cmdline": "quiet"}]}';

async function ask(method: string, name: string, json?: unknown) {
  const path = `/v2.6/mbpolicies${name === '' ? '' : `/${name}`}`;
  const { code, text, json: body } = await verifier.ask({ method, path, ...(json !== undefined && { json }) });
  return { code, text, body };
}
const UNREAD =
  'The reference state names no policy, so accept-all of measured_boot_policy_name judges by it, which looks at nothing of it: every boot passes whose log leads to the quoted PCRs. ' +
  'Store it with the name of the policy that it is for: mb_policy_rules, of the tenant --mb-policy-rules';
const STORED = { warnings: [UNREAD] };
const answer = (code: number, status: string, results: unknown = {}) => ({ code, status, results });

async function enrol(id: string, changes: Readonly<Record<string, unknown>>) {
  const json = enrolment(agent, { runtime_policy: '', ...changes });
  const { code, status } = await verifier.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json });
  return [code, status];
}
const remove = (id: string) => verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${id}` });
const hasReference = async (id: string) => (await verifier.ask({ path: `/v2.6/agents/${id}` })).results.has_mb_refstate;

test('a policy is stored, shown, listed, replaced and deleted, in the words of the existing verifier', async () => {
  const missing = 'Measured boot policy m1 not found';
  assert.deepEqual((await ask('GET', 'm1')).body, answer(404, missing));
  assert.deepEqual((await ask('PUT', 'm1', { mb_policy: REFERENCE })).body, {
    ...answer(409, 'Measured boot policy with name m1 does not already exist'),
  });
  assert.deepEqual((await ask('POST', 'm1', { mb_policy: REFERENCE })).body, answer(201, 'Created', STORED));
  assert.deepEqual((await ask('POST', 'm1', { mb_policy: REFERENCE })).body, {
    ...answer(409, 'Measured boot policy with name m1 already exists'),
  });
  assert.deepEqual((await ask('GET', 'm1')).body, answer(200, 'Success', { name: 'm1', mb_policy: REFERENCE }));
  assert.deepEqual((await ask('PUT', 'm1', { mb_policy: '{"a": 1}' })).body, answer(201, 'Created', STORED));
  assert.deepEqual((await ask('GET', '')).body, answer(200, 'Success', { 'mbpolicy names': ['m1'] }));
  const gone = await ask('DELETE', 'm1');
  assert.deepEqual([gone.code, gone.text], [204, '']);
  assert.deepEqual((await ask('DELETE', 'm1')).body, answer(404, missing));
});

test('[compat] a body without a policy stores none', async () => {
  assert.equal((await ask('POST', 'none', {})).code, 201);
  assert.deepEqual((await ask('GET', 'none')).body.results, { name: 'none', mb_policy: null });
  assert.equal((await ask('DELETE', 'none')).code, 204);
});

test('a reference state that nobody could judge by is refused at upload', async () => {
  for (const [body, problem] of [
    [{ mb_policy: '{' }, /mb_policy is not valid JSON/],
    [{ mb_policy: { kernels: [] } }, /mb_policy must be text or null/],
    [
      { mb_policy: REFERENCE, mb_policy_rules: 'nobody' },
      /mb_policy_rules: this verifier has no measured-boot policy nobody/,
    ],
    [[], /the body must be a JSON object/],
  ] as const) {
    for (const method of ['POST', 'PUT']) {
      const { code, body: refused } = await ask(method, 'bad', body);
      assert.equal(code, 400);
      assert.match(String(refused.status), problem);
    }
  }
  assert.equal((await ask('POST', 'a%0ab', { mb_policy: REFERENCE })).code, 400);
  assert.equal((await ask('GET', 'bad')).code, 404);
});

test('the rules that a reference state is for are kept with it', async () => {
  assert.equal((await ask('POST', 'no', { mb_policy: REFERENCE, mb_policy_rules: 'reject-all' })).code, 201);
  const { results } = (await ask('GET', 'no')).body;
  assert.deepEqual(results, { name: 'no', mb_policy: REFERENCE, mb_policy_rules: 'reject-all' });
  assert.equal((await ask('DELETE', 'no')).code, 204);
});

test('a reference state that the policy of the settings does not look at is stored, and that is said', async () => {
  const body = { mb_policy: REFERENCE };
  for (const [name, changes] of [
    ['named', { ...body, mb_policy_rules: 'accept-all' }],
    ['empty', { mb_policy: '{}' }],
    ['none', {}],
  ] as const) {
    assert.deepEqual((await ask('POST', name, changes)).body, answer(201, 'Created'), name);
    assert.deepEqual((await ask('PUT', name, changes)).body, answer(201, 'Created'), name);
    assert.equal((await ask('DELETE', name)).code, 204);
  }
  const results = async (id: string, changes: object) => {
    const json = enrolment(agent, { runtime_policy: '', ...changes });
    const answered = await verifier.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json });
    assert.equal(answered.code, 200);
    return answered.results;
  };
  assert.deepEqual(await results('own', body), STORED);
  assert.deepEqual(await results('rules', { ...body, mb_policy_rules: 'reject-all' }), {});
  assert.equal((await ask('POST', 'shared', body)).code, 201);
  assert.deepEqual(await results('other', { mb_policy_name: 'shared' }), STORED);
  assert.ok(verifier.log().includes('names no policy, so accept-all'), 'the log says it, too');
  for (const id of ['own', 'rules', 'other']) assert.equal((await remove(id)).code, 200);
  assert.equal((await ask('DELETE', 'shared')).code, 204);
});

test('name and policy, one of them, or neither: what an enrolment stores, and what conflicts', async () => {
  assert.deepEqual(await enrol('one', {}), [200, 'Success']);
  assert.deepEqual((await ask('GET', 'one')).body.results, { name: 'one', mb_policy: null });
  assert.equal(await hasReference('one'), 0);

  assert.deepEqual(await enrol('two', { mb_policy: REFERENCE }), [200, 'Success']);
  assert.deepEqual((await ask('GET', 'two')).body.results, { name: 'two', mb_policy: REFERENCE });
  assert.equal(await hasReference('two'), 1);

  assert.deepEqual(await enrol('three', { mb_policy_name: 'web' }), [404, 'Could not find mb_policy with name web!']);
  assert.deepEqual(await enrol('three', { mb_policy_name: 'web', mb_policy: REFERENCE }), [200, 'Success']);
  const advice = 'Please use a different name or delete the mb_policy from the verifier.';
  const conflict = `mb_policy with name web already exists. ${advice}`;
  assert.deepEqual(await enrol('four', { mb_policy_name: 'web', mb_policy: REFERENCE }), [409, conflict]);
  const policies = (await verifier.ask({ path: '/v2.6/allowlists' })).results['runtimepolicy names'];
  assert.deepEqual(policies, ['one', 'three', 'two'], 'the refused enrolment left nothing behind');
  assert.deepEqual(await enrol('four', { mb_policy_name: 'web' }), [200, 'Success']);

  const inUse = await ask('DELETE', 'web');
  const usedBy = "Can't delete mb_policy as it's currently in use by agent four";
  assert.deepEqual([inUse.code, inUse.body.status], [409, usedBy]);
  for (const id of ['one', 'two', 'three', 'four']) assert.equal((await remove(id)).code, 200);
  assert.deepEqual((await ask('GET', '')).body.results, { 'mbpolicy names': ['web'] }, 'own policies went with them');
  assert.equal((await ask('DELETE', 'web')).code, 204);
});

test('[MUST] a policy that somebody stored under the name of an agent is not taken for the one submitted', async () => {
  assert.equal((await ask('POST', 'mine', { mb_policy: '{"weak": 1}' })).code, 201);
  const conflict = 'mb_policy with name mine already exists. You can delete the mb_policy from the verifier.';
  assert.deepEqual(await enrol('mine', { mb_policy: REFERENCE }), [409, conflict]);
  assert.deepEqual(await enrol('mine', {}), [409, conflict]);
  assert.equal((await ask('DELETE', 'mine')).code, 204);
});

test('rules are not given beside a policy that has its own', async () => {
  assert.equal((await ask('POST', 'stored', { mb_policy: REFERENCE })).code, 201);
  const [code, status] = await enrol('x', { mb_policy_name: 'stored', mb_policy_rules: 'reject-all' });
  assert.equal(code, 400);
  assert.match(String(status), /mb_policy_rules goes with mb_policy/);
  assert.equal((await ask('DELETE', 'stored')).code, 204);
});
