import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject, privateDecrypt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { envelope, type Respond } from '@keylime/tenant/testing/lab';
import { AGENT, emptyVerifier, openScene, type Scene, type Twist } from '@keylime/tenant/testing/scene';
import { softwareTpm } from '@keylime/tenant/testing/software-tpm';

/*
 * What a payload is for: neither half of its key, nor the certificate that comes with it, reaches anybody but the machine
 * that the operator meant. The scene is a registrar, an agent and a verifier on TLS connections, and the tenant.
 */
const SECRET = 'what the machine alone may read';

/** The agent's side of `keys/…`: it takes what it is given. */
function takes(given: string[]): Respond {
  return ({ method, body }) => {
    if (method === 'POST') given.push(body);
    return method === 'POST' ? envelope(200, 'Success', null) : envelope(400, 'Bootstrap key not yet available.');
  };
}

async function sends(t: TestContext, twist: Twist, argv: readonly string[] = []) {
  const given: string[] = [];
  const scene = await openScene(t, { keys: takes(given), ...twist });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, SECRET);
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT, '-f', file, ...argv]);
  return { scene, given, outcome };
}

test('the scene delivers when nobody attacks', async (t) => {
  const { scene, given, outcome } = await sends(t, {});
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.equal(given.length, 1);
  assert.equal(scene.changes().length, 1);
});

const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
const pemOf = (key: KeyObject) => createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString();

test('[MUST] U is not encrypted for a key that the quote does not bind to the TPM', async (t) => {
  for (const twist of [
    { evidence: { pubkey: pemOf(stranger) } },
    { quotedBy: softwareTpm() },
    { quote: { nonce: 'A'.repeat(20) } },
    { emptyStore: true },
  ]) {
    const { scene, given, outcome } = await sends(t, twist);
    assert.equal(outcome.code, 1, outcome.stdout);
    assert.deepEqual(given, []);
    assert.deepEqual(scene.changes(), []);
  }
});

test('[MUST] who reads the wire to the agent, or the verifier, learns nothing of the payload', async (t) => {
  const { scene, given } = await sends(t, {});
  const { encrypted_key, auth_tag, payload } = JSON.parse(given[0] ?? '{}');
  const { v } = JSON.parse(scene.changes()[0]?.body ?? '{}');
  assert.throws(() => privateDecrypt(stranger, Buffer.from(encrypted_key, 'base64')));
  const seen = Buffer.concat([Buffer.from(payload, 'base64'), Buffer.from(v, 'base64'), Buffer.from(auth_tag, 'hex')]);
  assert.ok(!seen.includes(SECRET));
  // Each delivery has a key of its own.
  const again = await sends(t, {});
  assert.notEqual(JSON.parse(again.scene.changes()[0]?.body ?? '{}').v, v);
});

test('[MUST] a machine that answers the challenge without the key is stopped, and a replayed answer is none', async (t) => {
  let first: string | undefined;
  const verifier = emptyVerifier();
  const replaying: Respond = ({ method, path: url }) => {
    if (method === 'POST') return envelope(200, 'Success', null);
    first ??= new URL(url, 'https://agent').searchParams.get('challenge') ?? '';
    return envelope(200, 'Success', { hmac: '00'.repeat(48) });
  };
  const { scene, outcome } = await sends(
    t,
    {
      keys: replaying,
      verifier: (request) => (request.method === 'PUT' ? envelope(200, 'Success') : verifier(request)),
    },
    ['--verify'],
  );
  assert.equal(outcome.code, 1);
  assert.equal(scene.changes().at(-1)?.path, `/v2.6/agents/${AGENT}/stop`);
  const challenges = scene.agent.seen.flatMap(({ path: url }) => /challenge=(.*)/.exec(url)?.[1] ?? []);
  assert.equal(new Set(challenges).size, challenges.length, 'every challenge is a fresh one');
  assert.equal(challenges[0], first);
});

async function certificateFor(scene: Scene, id: string, dir: string) {
  const { lab, verifier, registrar } = scene;
  const env = { KEYLIME_CA_PASSWORD: 'p' };
  return lab.run(['-c', 'add', `--uuid=${id}`, '--cert', dir], { verifier, registrar }, {}, env);
}

test('[MUST] no machine becomes an administrator by its certificate, under whatever name the CA of the services lies', async (t) => {
  const scene = await openScene(t, { keys: takes([]) });
  const copy = path.join(scene.lab.workDir, 'elsewhere');
  mkdirSync(copy);
  writeFileSync(path.join(copy, 'cacert.crt'), readFileSync(path.join(scene.lab.workDir, 'cv_ca', 'cacert.crt')));
  for (const dir of [path.join(scene.lab.workDir, 'cv_ca'), copy]) {
    const outcome = await certificateFor(scene, AGENT, dir);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /would make the agent an administrator/);
  }
  assert.deepEqual(scene.changes(), []);
});

test('[MUST] a machine that registered as RevocationNotifier, or with a path as its name, gets no certificate', async (t) => {
  const scene = await openScene(t, { keys: takes([]) });
  for (const id of ['RevocationNotifier', 'client', 'server', '.hidden', '-n', '..']) {
    assert.equal((await certificateFor(scene, id, 'default')).code, 1, id);
  }
  assert.deepEqual(scene.registrar.seen, []);
});
