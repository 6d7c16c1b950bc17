import assert from 'node:assert/strict';
import { constants, createPrivateKey, privateDecrypt, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { readZip } from '@keylime/payload/archive';
import { decryptPayload } from '@keylime/payload/encryption';
import { isKeyAuthTag, joinKey, keyVerifyHmac } from '@keylime/payload/key-split';
import { revokeName } from '@keylime/pki/revocation';
import { encryptToFiles } from './encrypt-file.ts';
import { envelope, openLab, type Respond } from './testing/lab.ts';
import { AGENT, emptyVerifier, machine, openScene } from './testing/scene.ts';

const CA_PASSWORD = { KEYLIME_CA_PASSWORD: 'a password of a test' };

type Taken = { u?: Buffer; authTag?: Buffer; payload?: string };

/** An agent that takes U, and answers challenges when it was given V, as if by the verifier. */
function takingAgent(taken: Taken, v: () => Buffer | undefined = () => undefined): Respond {
  return ({ method, path: url, body }) => {
    if (method === 'POST' && url === '/v2.6/keys/ukey') {
      const { encrypted_key, auth_tag, payload } = JSON.parse(body);
      const key = machine().transportKey;
      const padding = constants.RSA_PKCS1_OAEP_PADDING;
      taken.u = privateDecrypt({ key, padding, oaepHash: 'sha1' }, Buffer.from(encrypted_key, 'base64'));
      taken.authTag = Buffer.from(auth_tag, 'hex');
      taken.payload = payload;
      return envelope(200, 'Success', null);
    }
    const half = v();
    if (half === undefined || taken.u === undefined) return envelope(400, 'Bootstrap key not yet available.');
    const challenge = new URL(url, 'https://agent').searchParams.get('challenge') ?? '';
    return envelope(200, 'Success', { hmac: keyVerifyHmac(joinKey(taken.u, half), challenge) });
  };
}

const bodyOf = (changes: readonly { readonly method: string; readonly body: string }[]) =>
  JSON.parse(changes.find(({ method }) => method === 'POST')?.body ?? '{}');

/** What the agent reads once it has both halves. */
function opened(taken: Taken, body: { readonly v: string }): { readonly key: Buffer; readonly content: Buffer } {
  assert.ok(taken.u && taken.authTag && taken.payload !== undefined);
  const key = joinKey(taken.u, Buffer.from(body.v, 'base64'));
  assert.ok(isKeyAuthTag(key, AGENT, taken.authTag), 'the tag binds the key to the agent');
  const content = decryptPayload(key, Buffer.from(taken.payload, 'base64'));
  assert.ok(content.ok);
  return { key, content: content.value };
}

test('-f: the agent gets U and the ciphertext, the verifier V afterwards, and nobody sees a key in the output', async (t) => {
  const taken: Taken = {};
  const order: string[] = [];
  const verifier = emptyVerifier();
  const agent = takingAgent(taken);
  const scene = await openScene(t, {
    keys: (request) => {
      order.push('U');
      return agent(request);
    },
    verifier: (request) => {
      if (request.method === 'POST') order.push('V');
      return verifier(request);
    },
  });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, 'the secret of a test');
  const outcome = await scene.tenant(['-u', AGENT, '-f', file]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(order, ['U', 'V']);
  const body = bodyOf(scene.changes());
  const { key, content } = opened(taken, body);
  assert.equal(content.toString(), 'the secret of a test');
  assert.deepEqual([body.metadata, body.revocation_key], ['{}', '']);
  for (const secret of [key, taken.u ?? key, Buffer.from(body.v, 'base64')]) {
    for (const shown of [secret.toString('base64'), secret.toString('hex')]) {
      assert.ok(!outcome.stdout.includes(shown) && !outcome.stderr.includes(shown));
    }
  }
});

test('[MUST] no half of the key leaves the tenant for a machine that fails a check', async (t) => {
  for (const twist of [{ emptyStore: true }, { quote: { nonce: 'another' } }, { evidence: { pubkey: 'other' } }]) {
    const taken: Taken = {};
    const scene = await openScene(t, { ...twist, keys: takingAgent(taken) });
    const file = path.join(scene.lab.workDir, 'secret.txt');
    writeFileSync(file, 'secret');
    const outcome = await scene.tenant(['-u', AGENT, '-f', file]);
    assert.equal(outcome.code, 1, outcome.stdout);
    assert.deepEqual(taken, {});
    assert.deepEqual(scene.changes(), []);
  }
});

test('an agent that refuses U is not given to the verifier', async (t) => {
  const scene = await openScene(t, { keys: () => envelope(400, 'Failed to decrypt encrypted_key: no') });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, 'secret');
  const outcome = await scene.tenant(['-u', AGENT, '-f', file]);
  assert.equal(outcome.code, 1);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /Posting of encrypted U to Agent .* failed with response code 400 \(Failed to decrypt encrypted_key: no\)/,
  );
  assert.deepEqual(scene.changes(), []);
});

test('[MUST] a verifier that repeats what it was sent brings no key into the output', async (t) => {
  const verifier = emptyVerifier();
  const scene = await openScene(t, {
    keys: takingAgent({}),
    verifier: (request) => (request.method === 'POST' ? envelope(400, `no: ${request.body}`) : verifier(request)),
  });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, 'secret');
  for (const command of ['add', 'update']) {
    const outcome = await scene.tenant(['-c', command, '-u', AGENT, '-f', file]);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /400 Unexpected response from .*"v": ?"\[not shown\]"/);
  }
});

test('an agent that is busy is offered U again', async (t) => {
  const taken: Taken = {};
  const agent = takingAgent(taken);
  let busy = 2;
  const scene = await openScene(t, { keys: (request) => (busy-- > 0 ? envelope(503, 'starting') : agent(request)) });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, 'secret');
  const outcome = await scene.tenant(['-u', AGENT, '-f', file]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.equal(opened(taken, bodyOf(scene.changes())).content.toString(), 'secret');
});

test('-k with -p delivers what keylime_userdata_encrypt made, and -k alone the key', async (t) => {
  const taken: Taken = {};
  const scene = await openScene(t, { keys: takingAgent(taken) });
  const file = path.join(scene.lab.workDir, 'secret.txt');
  writeFileSync(file, 'encrypted before');
  const { keysFile, payloadFile } = await encryptToFiles(file, scene.lab.workDir);
  const outcome = await scene.tenant(['-u', AGENT, '-k', keysFile, '-p', payloadFile]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.equal(opened(taken, bodyOf(scene.changes())).content.toString(), 'encrypted before');

  await scene.tenant(['-c', 'delete', '-u', AGENT]);
  assert.equal((await scene.tenant(['-u', AGENT, '-k', keysFile])).code, 0);
  assert.equal(taken.payload, undefined);
});

test('combinations of payload options that make no sense are refused before any request', async (t) => {
  const lab = openLab(t);
  const file = path.join(lab.workDir, 'file');
  writeFileSync(file, 'x');
  const one =
    'You must specify one of -k, -f, or --cert to specify the key/contents to be securely delivered to the agent';
  for (const [argv, message] of [
    [['--verify'], '--verify only works when a payload is provided to the agent via -k, -f, or --cert'],
    [['-f', file, '-k', file], one],
    [['-f', file, '--cert', 'default'], one],
    [['-k', file, '--cert', 'default'], one],
    [['-f', file, '--include', lab.workDir], '--include option is only valid when used with --cert'],
    [['-p', file], '--payload needs --key: '],
    [['-f', file, '-p', file], '--payload needs --key: '],
    [['--push-model', '-f', file], 'An agent of the push model takes no payload'],
    [['--push-model', '--verify'], 'An agent of the push model takes no payload'],
    [['-f', path.join(lab.workDir, 'absent')], 'Cannot read the payload '],
    [['-k', file], `Invalid key file ${file}: it has 1 lines`],
    [['--cert', 'default', '--include', path.join(lab.workDir, 'absent')], 'Cannot read the directory of --include'],
  ] as const) {
    for (const command of ['add', 'update']) {
      const outcome = await lab.run(['-c', command, '-u', AGENT, ...argv], {}, {}, CA_PASSWORD);
      assert.equal(outcome.code, 1);
      assert.ok(outcome.messages.at(-1)?.startsWith(`ERROR - ${message}`), outcome.stdout);
    }
  }
});

test('a payload that is larger than max_payload_size is refused: it is counted in base64', async (t) => {
  const scene = await openScene(t, { keys: takingAgent({}) });
  const file = path.join(scene.lab.workDir, 'file');
  // 1500 characters of base64 hold 1125 bytes, of which IV and tag take 32.
  writeFileSync(file, Buffer.alloc(1125 - 32));
  assert.equal((await scene.tenant(['-u', AGENT, '-f', file], { max_payload_size: '1500' })).code, 0);
  writeFileSync(file, Buffer.alloc(1125 - 31));
  const outcome = await scene.tenant(['-c', 'update', '-u', AGENT, '-f', file], { max_payload_size: '1500' });
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /^ERROR - Payload size 1504 exceeds max size 1500/);
  assert.equal(scene.changes().length, 1);
});

test('a payload that its key does not open is refused', async (t) => {
  const lab = openLab(t);
  const file = path.join(lab.workDir, 'file');
  writeFileSync(file, 'x');
  const one = await encryptToFiles(file, lab.workDir);
  const keys = readFileSync(one.keysFile);
  const two = await encryptToFiles(file, lab.workDir);
  writeFileSync(one.keysFile, keys);
  const outcome = await lab.run(['-u', AGENT, '-k', one.keysFile, '-p', two.payloadFile]);
  assert.match(outcome.messages.at(-1) ?? '', /^ERROR - The key of .* does not open .*: not_authentic$/);
});

test('--verify waits until the agent proves the key', async (t) => {
  const taken: Taken = {};
  const verifier = emptyVerifier();
  let v: Buffer | undefined;
  let polls = 0;
  const scene = await openScene(t, {
    keys: takingAgent(taken, () => (polls++ > 0 ? v : undefined)),
    verifier: (request) => {
      if (request.method === 'POST') v = Buffer.from(JSON.parse(request.body).v, 'base64');
      return verifier(request);
    },
  });
  const file = path.join(scene.lab.workDir, 'file');
  writeFileSync(file, 'x');
  const outcome = await scene.tenant(['-u', AGENT, '-f', file, '--verify']);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(outcome.messages.some((line) => /Key derivation not yet complete .* at try 1\/3/.test(line)));
  assert.match(outcome.messages.at(-1) ?? '', /^INFO - Successful key derivation for Agent /);
});

test('[MUST] an agent that does not prove the key in time, or proves another one, is stopped', async (t) => {
  for (const [v, last] of [
    [undefined, /it answered 400 Bootstrap key not yet available/],
    [Buffer.alloc(32), /it proved another key.*make a new one/],
  ] as const) {
    const verifier = emptyVerifier();
    const scene = await openScene(t, {
      keys: takingAgent({}, () => v),
      verifier: (request) => (request.method === 'PUT' ? envelope(200, 'Success') : verifier(request)),
    });
    const file = path.join(scene.lab.workDir, 'file');
    writeFileSync(file, 'x');
    const outcome = await scene.tenant(['-u', AGENT, '-f', file, '--verify']);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /^ERROR - Failed key derivation for Agent .* after 3 tries/);
    assert.match(outcome.messages.at(-1) ?? '', last);
    assert.deepEqual(
      scene.changes().map(({ method, path: url }) => `${method} ${url}`),
      [`POST /v2.6/agents/${AGENT}`, `PUT /v2.6/agents/${AGENT}/stop`],
    );
  }
});

test('update hands U over before it deletes, and V with the new enrolment', async (t) => {
  const taken: Taken = {};
  const scene = await openScene(t, { keys: takingAgent(taken) });
  const file = path.join(scene.lab.workDir, 'file');
  writeFileSync(file, 'new');
  await scene.tenant(['-u', AGENT]);
  const outcome = await scene.tenant(['-c', 'update', '-u', AGENT, '-f', file]);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.deepEqual(
    scene.changes().map(({ method }) => method),
    ['POST', 'DELETE', 'POST'],
  );
  const { v } = JSON.parse(scene.changes().at(-1)?.body ?? '{}');
  assert.equal(opened(taken, { v }).content.toString(), 'new');
});

test('--cert makes CA, certificate and notifier, and delivers the package in the order of the existing tenant', async (t) => {
  const taken: Taken = {};
  const scene = await openScene(t, { keys: takingAgent(taken) });
  const { lab, verifier, registrar } = scene;
  const include = path.join(lab.workDir, 'more');
  mkdirSync(path.join(include, 'sub'), { recursive: true });
  writeFileSync(path.join(include, 'autorun.sh'), '#!/bin/sh\n');
  symlinkSync('autorun.sh', path.join(include, 'again.sh'));
  const argv = ['-u', AGENT, '--cert', 'default', '--include', include];
  const outcome = await lab.run(argv, { verifier, registrar }, {}, CA_PASSWORD);
  assert.equal(outcome.code, 0, outcome.stdout);
  assert.ok(outcome.messages.some((line) => line.startsWith('WARNING - CA directory does not exist. Creating...')));
  const left = `WARNING - --include takes no folders: ${path.join(include, 'sub')} is left out`;
  assert.ok(outcome.messages.some((line) => line.startsWith(left)));
  const body = bodyOf(scene.changes());
  const entries = await readZip(opened(taken, body).content);
  assert.ok(entries.ok);
  assert.deepEqual(
    entries.value.map(({ name }) => name),
    [
      ...[`${AGENT}-public.pem`, `${AGENT}-cert.crt`, `${AGENT}-private.pem`, 'cacert.crt', 'cacrl.der', 'cacrl.pem'],
      ...['RevocationNotifier-cert.crt', 'again.sh', 'autorun.sh'],
    ],
  );
  const file = (name: string) => {
    const entry = entries.value.find((one) => one.name === name);
    assert.ok(entry?.type === 'file');
    return entry.content;
  };
  const own = new X509Certificate(file(`${AGENT}-cert.crt`));
  assert.ok(own.verify(new X509Certificate(file('cacert.crt')).publicKey));
  assert.ok(own.checkPrivateKey(createPrivateKey(file(`${AGENT}-private.pem`))));
  assert.equal(body.metadata, `{"cert_serial": 2, "subject": "OU=53,O=Keylime,L=Lexington,ST=MA,CN=${AGENT},C=US"}`);
  const notifier = new X509Certificate(file('RevocationNotifier-cert.crt'));
  assert.ok(notifier.checkPrivateKey(createPrivateKey(body.revocation_key)));
  assert.ok(!outcome.stdout.includes('PRIVATE KEY'));
});

test('--cert keeps the certificate of an agent, and makes a new one when it was revoked', async (t) => {
  const scene = await openScene(t, { keys: takingAgent({}) });
  const { lab, verifier, registrar } = scene;
  const serialOf = async (command: string) => {
    const outcome = await lab.run(
      ['-c', command, '-u', AGENT, '--cert', 'default'],
      { verifier, registrar },
      {},
      CA_PASSWORD,
    );
    assert.equal(outcome.code, 0, outcome.stdout);
    return JSON.parse(JSON.parse(scene.changes().at(-1)?.body ?? '{}').metadata).cert_serial;
  };
  assert.deepEqual([await serialOf('add'), await serialOf('update')], [2, 2]);
  await revokeName({ dir: path.join(lab.workDir, 'ca'), password: CA_PASSWORD.KEYLIME_CA_PASSWORD }, AGENT);
  assert.equal(await serialOf('update'), 4);
});

test('[MUST] --cert gives no machine a certificate of the CA of verifier and registrar', async (t) => {
  const scene = await openScene(t, { keys: takingAgent({}) });
  const { lab, verifier, registrar } = scene;
  const argv = ['-u', AGENT, '--cert', path.join(lab.workDir, 'cv_ca')];
  const outcome = await lab.run(argv, { verifier, registrar }, {}, CA_PASSWORD);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /^ERROR - The CA in .* would make the agent an administrator/);
  assert.deepEqual(scene.agent.seen, []);
});

test('[MUST] a machine that is called like the notifier does not get the key that signs revocations', async (t) => {
  for (const id of ['RevocationNotifier', 'server', 'client']) {
    const lab = openLab(t);
    const outcome = await lab.run(['-u', id, '--cert', 'default'], {}, {}, CA_PASSWORD);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /--cert makes no certificate for an agent that is called/);
  }
});

test('the password of the CA is asked for if the configuration says default, and a wrong one ends it at once', async (t) => {
  const scene = await openScene(t, { keys: takingAgent({}) });
  const { lab, verifier, registrar } = scene;
  const questions: string[] = [];
  const answering = (answer: string) => async (question: string) => {
    questions.push(question);
    return answer;
  };
  const run = (answer: string) =>
    lab.run(['-u', AGENT, '--cert', 'default'], { verifier, registrar }, {}, {}, answering(answer));
  assert.match((await run('')).messages.at(-1) ?? '', /You must specify a password!$/);
  assert.equal((await run('one')).code, 0);
  const asked = scene.agent.seen.length;
  assert.match(
    (await run('two')).messages.at(-1) ?? '',
    /Error reading the keystore from .*: Invalid password for keystore/,
  );
  assert.equal(scene.agent.seen.length, asked);
  assert.deepEqual([...new Set(questions)], ['Please enter the password to decrypt your keystore: ']);
});

test('a name that comes twice in the package is refused', async (t) => {
  const scene = await openScene(t, { keys: takingAgent({}) });
  const { lab, verifier, registrar } = scene;
  const include = path.join(lab.workDir, 'more');
  mkdirSync(include);
  writeFileSync(path.join(include, 'cacert.crt'), 'x');
  const argv = ['-u', AGENT, '--cert', 'default', '--include', include];
  const outcome = await lab.run(argv, { verifier, registrar }, {}, CA_PASSWORD);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /^ERROR - --include: cacert\.crt is the name of a file of the certificate package/,
  );
  assert.deepEqual(scene.changes(), []);
});
