import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { envelope, type Respond } from './testing/lab.ts';
import { AGENT, emptyVerifier, machine, openScene } from './testing/scene.ts';

const policyFile = fileURLToPath(new URL('vectors/policy.json', import.meta.url));
const added = (port: number, verifier: number) =>
  `INFO - Agent ${AGENT} (127.0.0.1:${port}) added to Verifier (127.0.0.1:${verifier}) after 0 tries`;

test('add checks the agent and gives it to the verifier with every key of the body, as the existing tenant does', async (t) => {
  const scene = await openScene(t);
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(
    scene.changes().map(({ method, path: url }) => `${method} ${url}`),
    [`POST /v2.6/agents/${AGENT}`],
  );

  const vectors = JSON.parse(readFileSync(new URL('vectors/recorded.json', import.meta.url), 'utf8'));
  const theirs = vectors.cases.find(({ name }: { name: string }) => name === 'add').exchanges;
  const recorded: string = theirs.find(({ method }: { method: string }) => method === 'POST').request;
  const expected = JSON.parse(
    recorded
      .replaceAll('<agent port>', String(scene.agent.port))
      .replaceAll('<verifier port>', String(scene.verifier.port)),
  );
  const { tpm, tls } = machine();
  expected.ak_tpm = tpm.akPublic.toString('base64');
  expected.mtls_cert = tls.certificate;
  const body = scene.changes()[0]?.body ?? '';
  assert.deepEqual(Object.entries(JSON.parse(body)), Object.entries(expected));

  const quoteLine = outcome.data.find((line) =>
    line.startsWith("{'code': 200, 'status': 'Success', 'results': {'quote': 'r"),
  );
  assert.ok(quoteLine, 'the identity quote is printed as a Python dict');
  assert.ok(
    outcome.data.includes(
      `{"${AGENT}": {"operational_state": "Get Quote", "v": null, "verifier_ip": "127.0.0.1", "verifier_port": 1}}`,
    ),
  );
  assert.ok(outcome.messages.includes(added(scene.agent.port, scene.verifier.port)));
  assert.ok(!outcome.stdout.includes('c2VjcmV0'), 'the key share is not shown');
});

test('what the verifier warns of is told when an agent is added, and is no failure', async (t) => {
  const verifier = emptyVerifier();
  const scene = await openScene(t, {
    verifier: (request) => {
      const answer = verifier(request);
      return request.method === 'POST' ? envelope(200, 'Success', { warnings: ['accept-all judges by it'] }) : answer;
    },
  });
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(outcome.messages.includes('WARNING - accept-all judges by it'), outcome.messages.join('\n'));
});

test('the agent is asked for its version, then for an identity quote with a nonce of 20 letters and digits', async (t) => {
  const scene = await openScene(t);
  await scene.tenant(['-c', 'add', '-u', AGENT]);
  const [version, quote, ...more] = scene.agent.seen.map(({ path: url }) => url);
  assert.equal(version, '/version');
  assert.match(quote ?? '', /^\/v2\.6\/quotes\/identity\?nonce=[A-Za-z0-9]{20}$/);
  assert.deepEqual(more, []);
});

test('addresses on the command line win over the registrar, and ports from there are text in the body', async (t) => {
  const scene = await openScene(t, { record: { ip: '192.0.2.1', port: 1 } });
  const outcome = await scene.tenant([
    ...['-u', AGENT, '-t', '127.0.0.1', '-tp', String(scene.agent.port), '--cv_targethost', '10.1.2.3'],
    ...['--runtime-policy', policyFile, '--tpm_policy', `{"22": "${'AB'.repeat(32)}"}`],
  ]);
  assert.equal(outcome.code, 0, outcome.stdout);
  const body = JSON.parse(scene.changes()[0]?.body ?? '');
  assert.equal(body.cloudagent_ip, '10.1.2.3');
  assert.equal(body.cloudagent_port, String(scene.agent.port));
  assert.equal(body.tpm_policy, `{"22": ["${'ab'.repeat(32)}"], "mask": "0x400400"}`);
  assert.equal(body.runtime_policy, readFileSync(policyFile).toString('base64'));
});

test('an agent that is not ready is asked again, and given up after max_retries', async (t) => {
  const busy = envelope(503, 'starting');
  const ready = await openScene(t, { agentFirst: [busy, undefined] });
  assert.equal((await ready.tenant(['-u', AGENT])).code, 0);
  const never = await openScene(t, { agentFirst: Array.from({ length: 9 }, () => busy) });
  const outcome = await never.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /^ERROR - Tenant cannot establish connection to Agent .*503/);
  assert.equal(never.agent.seen.length, 3);
  assert.deepEqual(never.changes(), []);
});

test('an agent without a common API version is refused', async (t) => {
  const scene = await openScene(t, { agentFirst: [envelope(200, 'Success', { supported_versions: ['1.0', '3.0'] })] });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /has no compatible API version: it speaks 1\.0, 3\.0/);
});

test('an agent of one model at a verifier of the other is told of', async (t) => {
  const inner = emptyVerifier();
  const pushedTo = await openScene(t, {
    verifier: (request) => (request.path === '/version' ? envelope(410, 'Gone') : inner(request)),
  });
  const warned = (outcome: { readonly messages: readonly string[] }, word: RegExp) =>
    outcome.messages.some((line) => line.startsWith('WARNING - Verifier') && word.test(line));
  assert.ok(warned(await pushedTo.tenant(['-u', AGENT]), /asks no agents \(mode = push\)/));
  const asking = await openScene(t);
  assert.ok(warned(await asking.tenant(['-u', AGENT, '--push-model']), /asks its agents \(mode = pull\)/));
  assert.ok(!warned(await (await openScene(t)).tenant(['-u', AGENT]), /asks/));
});

test('a push agent is not contacted, but its EK is checked all the same', async (t) => {
  const scene = await openScene(t);
  const outcome = await scene.tenant(['-u', AGENT, '--push-model']);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(scene.agent.seen, []);
  assert.ok(outcome.data.includes(`{"${AGENT}": {"v": null, "verifier_ip": "127.0.0.1", "verifier_port": 1}}`));
  const unknown = await openScene(t, { emptyStore: true });
  assert.equal((await unknown.tenant(['-u', AGENT, '--push-model'])).code, 1);
  assert.deepEqual(unknown.changes(), []);
});

test('the EK is checked before the agent is asked anything', async (t) => {
  const scene = await openScene(t, { emptyStore: true });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /^ERROR - EK of agent .* rejected: Invalid EK certificate: the trust store holds no certificate/,
  );
  assert.deepEqual(scene.agent.seen, []);
});

test('without require_ek_cert and without a script the EK is accepted with a warning', async (t) => {
  const scene = await openScene(t, { emptyStore: true });
  const outcome = await scene.tenant(['-u', AGENT], { require_ek_cert: 'False' });
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(outcome.messages.some((line) => line.startsWith('WARNING - DANGER')));
});

test('the word emulator stands for an EK certificate in test mode only', async (t) => {
  const scene = await openScene(t, { record: { ekcert: 'emulator' }, emptyStore: true });
  assert.equal((await scene.tenant(['-u', AGENT])).code, 1);
  const { lab, verifier, registrar } = scene;
  const outcome = await lab.run(['-u', AGENT], { verifier, registrar }, {}, { KEYLIME_TEST: 'on' });
  assert.equal(outcome.code, 0, outcome.stdout);
});

test('ek_check_script sees what spec 02 section 4.1 names, in the work directory, and its output is logged', async (t) => {
  const scene = await openScene(t);
  const script = path.join(scene.lab.workDir, 'check.sh');
  writeFileSync(
    script,
    '#!/bin/sh\npwd\nfor n in AGENT_UUID EK EK_TPM EK_CERT PROVKEYS TPM_CERT_STORE; do eval "echo \\"$n=\\$$n\\""; done\necho "args=$#" >&2\n',
  );
  chmodSync(script, 0o755);
  const outcome = await scene.tenant(['-u', AGENT], { ek_check_script: 'check.sh' });
  assert.equal(outcome.code, 0, outcome.stdout);
  const line = outcome.messages.find((one) => one.startsWith('INFO - ek_check output: ')) ?? '';
  const { tpm } = machine();
  assert.ok(line.includes(`${scene.lab.workDir}\\nAGENT_UUID=${AGENT}\\nEK=-----BEGIN PUBLIC KEY-----\\n`), line);
  assert.ok(line.includes(`\\nEK_TPM=${tpm.ekPublic.toString('base64')}\\nEK_CERT=MII`), line);
  assert.ok(line.includes(`\\nPROVKEYS={}\\nTPM_CERT_STORE=${scene.lab.storeDir}\\n`), line);
  assert.ok(line.endsWith('args=0'), line);
});

test('an agent that the verifier has already is a conflict', async (t) => {
  const scene = await openScene(t);
  await scene.tenant(['-u', AGENT]);
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /responded indicating a conflict for agent .*\. Run "delete" or "update" first\./,
  );
});

test('update checks everything before it deletes, then deletes and adds', async (t) => {
  const scene = await openScene(t);
  await scene.tenant(['-u', AGENT]);
  const outcome = await scene.tenant(['-c', 'update', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(
    scene.changes().map(({ method }) => method),
    ['POST', 'DELETE', 'POST'],
  );
  assert.ok(outcome.messages.includes(`INFO - Agent ${AGENT} deleted from the CV`));
  assert.ok(outcome.messages.includes(added(scene.agent.port, scene.verifier.port)));
});

test('update leaves the agent where it is when a check fails', async (t) => {
  for (const twist of [{ emptyStore: true }, { quote: { nonce: 'another' } }, { verifier: emptyVerifier(['taken']) }]) {
    const scene = await openScene(t, twist);
    const outcome = await scene.tenant([
      '-c',
      'update',
      '-u',
      AGENT,
      '--runtime-policy',
      policyFile,
      '--runtime-policy-name',
      'taken',
    ]);
    assert.equal(outcome.code, 1, outcome.stdout);
    assert.deepEqual(scene.changes(), []);
  }
});

test('update does not delete for a policy that the verifier does not take, and leaves no trace of having asked', async (t) => {
  const inner = emptyVerifier();
  let refusal: string | undefined = "Runtime policy is malformatted: exclude pattern 0 '(a)\\1'";
  const stored = new Set<string>();
  const scene = await openScene(t, {
    verifier: (request) => {
      if (!request.path.startsWith('/v2.6/allowlists/trial-')) return inner(request);
      if (request.method === 'DELETE') return envelope(stored.delete(request.path) ? 204 : 404, 'Deleted');
      if (refusal !== undefined) return envelope(400, refusal);
      stored.add(request.path);
      return envelope(201, 'Created');
    },
  });
  const args = ['-c', 'update', '-u', AGENT, '--runtime-policy', policyFile];
  const refused = await scene.tenant(args);
  assert.equal(refused.code, 1);
  assert.match(
    refused.messages.at(-1) ?? '',
    /does not take the runtime policy, nothing was changed: 400 .*exclude pattern/,
  );
  assert.deepEqual(
    scene.changes().map(({ path: url }) => url.slice(0, 23)),
    ['/v2.6/allowlists/trial-'],
  );
  refusal = undefined;
  const taken = await scene.tenant(args);
  assert.equal(taken.code, 0, taken.stdout);
  assert.deepEqual([...stored], []);
});

test('update does not delete for a policy name that is unknown, or that the verifier deletes with the agent', async (t) => {
  const scene = await openScene(t, { verifier: emptyVerifier([AGENT]) });
  for (const name of ['unknown', AGENT]) {
    const outcome = await scene.tenant(['-c', 'update', '-u', AGENT, '--runtime-policy-name', name]);
    assert.equal(outcome.code, 1, outcome.stdout);
  }
  assert.deepEqual(scene.changes(), []);
});

test('update adds again when the verifier fails in between, and takes an answer that was lost for an agent that is there', async (t) => {
  const inner = emptyVerifier();
  let failures = 2;
  const flaky: Respond = (request) => {
    const answer = inner(request);
    if (request.method !== 'POST' || failures-- <= 0) return answer;
    return failures === 1 ? envelope(500, 'Internal Server Error') : undefined;
  };
  const scene = await openScene(t, { verifier: flaky });
  const outcome = await scene.tenant(['-c', 'update', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(
    scene.changes().map(({ method }) => method),
    ['POST', 'POST', 'POST'],
  );
});

test('update says loudly that the agent is not monitored when it cannot be added any more', async (t) => {
  const inner = emptyVerifier();
  const scene = await openScene(t, {
    verifier: (request) => (request.method === 'POST' ? envelope(400, 'no') : inner(request)),
  });
  const outcome = await scene.tenant(['-c', 'update', '-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.ok(outcome.messages.some((line) => line.startsWith('CRITICAL - ') && line.includes('NOT monitored')));
  assert.match(outcome.messages.at(-1) ?? '', /POST command response: 400 Unexpected response from Verifier .*: no/);
});

test('delete waits for an agent whose last attestation is running, at the verifier that was named', async (t) => {
  let polls = 0;
  const scene = await openScene(t, {
    verifier: ({ method, path: url }) => {
      if (url === '/version') return envelope(200, 'Success', { supported_versions: ['2.6'] });
      if (method === 'DELETE') return envelope(202, 'Accepted');
      return ++polls < 3
        ? envelope(200, 'Success', { operational_state: 8, verifier_ip: '192.0.2.7', verifier_port: 8881 })
        : envelope(404, 'agent id not found');
    },
  });
  const outcome = await scene.tenant(['-c', 'delete', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(
    outcome.messages.some((line) => line.startsWith('WARNING - The record of agent') && line.includes('192.0.2.7')),
  );
  assert.equal(outcome.messages.at(-1), `INFO - Agent ${AGENT} deleted from the CV`);
});

test('an agent that registered without TLS is asked in clear, with a warning', async (t) => {
  const scene = await openScene(t, { plainAgent: true, record: { mtls_cert: 'disabled' } });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(outcome.messages.some((line) => line.startsWith('WARNING - mTLS for Agent')));
  assert.equal(JSON.parse(scene.changes()[0]?.body ?? '').mtls_cert, 'disabled');
});

test('an agent of which the registrar has no certificate is not asked in clear unless the operator turned mTLS off', async (t) => {
  const scene = await openScene(t, { plainAgent: true, record: { mtls_cert: null } });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /registered no TLS certificate/);
  assert.deepEqual(scene.agent.seen, []);
  assert.equal((await scene.tenant(['-u', AGENT], { enable_agent_mtls: 'False' })).code, 0);
});

test('an address that would make another URL, or none at all, is refused', async (t) => {
  for (const record of [{ ip: '127.0.0.1/x' }, { ip: 'a@b' }, { ip: null }, { port: null }]) {
    const scene = await openScene(t, { record });
    const outcome = await scene.tenant(['-u', AGENT]);
    assert.equal(outcome.code, 1, outcome.stdout);
    assert.match(outcome.messages.at(-1) ?? '', /this is no host and port|The registrar has no address/);
    assert.deepEqual(scene.changes(), []);
  }
});

test('a record that lacks a field is refused with its name', async (t) => {
  const scene = await openScene(t, { record: { ek_tpm: undefined, regcount: undefined } });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /sent a record of agent .* without regcount, ek_tpm/);
});

test('an agent that registered several times and fails its quote is pointed out', async (t) => {
  const scene = await openScene(t, { record: { regcount: 2 }, quote: { nonce: 'x' } });
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.ok(outcome.messages.some((line) => line.startsWith('WARNING - Agent') && line.includes('registered 2 times')));
});

test('--agent-api-version is spoken without negotiation, and must be one of ours', async (t) => {
  const scene = await openScene(t);
  assert.equal((await scene.tenant(['-u', AGENT, '--agent-api-version', '2.1'])).code, 0);
  assert.match(scene.agent.seen[0]?.path ?? '', /^\/v2\.1\/quotes\/identity/);
  assert.equal(JSON.parse(scene.changes()[0]?.body ?? '').supported_version, '2.1');
  const outcome = await scene.tenant(['-u', AGENT, '--supported-version', '1.0']);
  assert.match(outcome.messages.at(-1) ?? '', /API version "1\.0" of agents is not supported by this version yet/);
});
