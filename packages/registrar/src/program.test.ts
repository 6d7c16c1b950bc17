import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { IDENTITY_CHANGED, INVALID_REGISTRATION } from '@keylime/api/registrar/registration';
import { digest } from '@keylime/core/digest';
import { certificatePem, parseCertificate } from '@keylime/identity/certificate';
import { caExtension, commonName, forgeCertificate, hardwareName } from '@keylime/identity/forge-certificate';
import { readTrustAnchors, verifyEndorsement } from '@keylime/identity/trust-store';
import { startPostgres } from '@keylime/testing/postgres';
import { testStockAgentIdentity } from '@keylime/testing/test-certificates';
import { certify, createIak, createIdevid, IAK_TEMPLATES } from '@keylime/tpm/iak';
import { flush } from '@keylime/tpm/object';
import { encodePublic, publicKey } from '@keylime/tpm/public';
import { softwareTpm } from './forge-registration.ts';
import { type RegistrarProcess, startRegistrarProcess } from './registrar-process.ts';
import { startTpmRegistrant } from './tpm-registrant.ts';

const VERSIONS = ['2', '2.0', '2.1', '2.2', '2.3', '2.4', '2.5', '2.6'];
let registrar: RegistrarProcess;
before(async () => {
  registrar = await startRegistrarProcess();
});
after(() => registrar.stop());

let counter = 0;
const freshId = () => `agent-${counter++}`;
const asAdmin = (method: string, target: string) => registrar.ask({ method, path: target, as: registrar.admin });

test('GET /version tells the versions on both ports', async () => {
  for (const as of [undefined, 'nobody'] as const) {
    const { code, json } = await registrar.ask({ method: 'GET', path: '/version', ...(as ? { as } : {}) });
    assert.equal(code, 200);
    assert.deepEqual(json, {
      code: 200,
      status: 'Success',
      results: {
        current_version: '2.6',
        supported_versions: ['2.0', '2.1', '2.2', '2.3', '2.4', '2.5', '2.6', '3.0'],
      },
    });
  }
});

test('an agent registers, activates, is read, listed and removed, in every version and form of the paths', async () => {
  const tpm = softwareTpm();
  const forms = [
    ...VERSIONS.map((version) => ({ version, post: 'id', activate: 'PUT', tail: '' })),
    { version: '2.6', post: 'body', activate: 'PUT', tail: '/activate' },
    { version: '2.6', post: 'id', activate: 'POST', tail: '/activate' },
    { version: '3', post: 'body', activate: 'POST', tail: '/activate' },
    { version: '3.0', post: 'body', activate: 'POST', tail: '/activate' },
  ];
  for (const { version, post, activate, tail } of forms) {
    const id = freshId();
    const agents = `/v${version}/agents`;
    const one = `${agents}/${id}`;
    const registered = await registrar.ask({
      method: 'POST',
      path: post === 'id' ? one : agents,
      json: tpm.body(post === 'id' ? {} : { agent_id: id }),
    });
    assert.equal(registered.code, 200, registered.text);
    assert.equal(registered.status, 'Success');
    const pending = await asAdmin('GET', one);
    assert.deepEqual(pending.json, { code: 404, status: `Agent with ID '${id}' has not been activated`, results: {} });
    const auth_tag = tpm.answer(String(registered.results.blob), id);
    const activated = await registrar.ask({ method: activate, path: `${one}${tail}`, json: { auth_tag } });
    assert.deepEqual(activated.json, { code: 200, status: 'Success', results: {} });
    const { ek_tpm, aik_tpm } = tpm.body();
    assert.deepEqual((await asAdmin('GET', one)).json, {
      code: 200,
      status: 'Success',
      results: {
        agent_id: id,
        ek_tpm,
        ekcert: null,
        aik_tpm,
        mtls_cert: 'disabled',
        ip: '127.0.0.1',
        port: 9002,
        regcount: 1,
      },
    });
    assert.deepEqual((await asAdmin('GET', `${agents}/`)).results, { uuids: [id] });
    assert.deepEqual((await asAdmin('DELETE', one)).json, { code: 200, status: 'Success', results: {} });
    const gone = { code: 404, status: `Agent with ID '${id}' not found`, results: {} };
    assert.deepEqual((await asAdmin('DELETE', one)).json, gone);
    assert.deepEqual((await asAdmin('GET', one)).json, gone);
    assert.deepEqual((await registrar.ask({ method: 'POST', path: `${one}/activate`, json: { auth_tag } })).json, gone);
  }
});

test('the roots of all versions answer, unknown versions and paths are 404 and wrong methods 405, all in JSON', async () => {
  for (const version of ['2', '2.6', '3', '3.0']) assert.equal((await asAdmin('GET', `/v${version}/`)).code, 200);
  for (const target of ['/', '/versions', '/v1.0/agents/a', '/v2.9/agents/a', '/2.6/agents', '/v9/']) {
    const { code, json } = await asAdmin('GET', target);
    assert.deepEqual([code, json.code, json.results], [404, 404, {}], target);
  }
  assert.equal((await asAdmin('PATCH', '/v2.6/agents/a')).json.code, 405);
  assert.equal((await registrar.ask({ method: 'POST', path: '/v3/agents/a', json: {} })).json.code, 405);
});

for (const { ek, ak } of [
  { ek: 'rsa2048', ak: { encryption: 'rsa2048', signing: 'rsapss', hash: 'sha256' } },
  { ek: 'ecc256', ak: { encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' } },
  { ek: 'ecc384', ak: { encryption: 'ecc384', signing: 'ecdsa', hash: 'sha384' } },
] as const) {
  test(`a TPM with EK ${ek} and AK ${ak.encryption} ${ak.signing} answers its challenge`, async () => {
    const machine = await startTpmRegistrant({ ek, ak });
    try {
      const [id, { certPem }] = [freshId(), await testStockAgentIdentity('agent')];
      const one = `/v2.6/agents/${id}`;
      const registered = await registrar.ask({ method: 'POST', path: one, json: machine.body({ mtls_cert: certPem }) });
      assert.equal(registered.code, 200, registered.text);
      const auth_tag = await machine.answer(String(registered.results.blob), id);
      assert.equal((await registrar.ask({ method: 'PUT', path: one, json: { auth_tag } })).code, 200);
      const { results } = await asAdmin('GET', one);
      assert.equal(results.mtls_cert, certPem);
      if (ek === 'ecc256') return; // swtpm has no certificate for this one
      const certificate = parseCertificate(String(results.ekcert));
      assert.ok(certificate.ok);
      const { certificates } = readTrustAnchors(machine.caCertificates.map((text, i) => ({ name: `${i}.pem`, text })));
      const endorsement = verifyEndorsement({
        certificate: certificate.value,
        intermediates: [],
        anchors: certificates,
        now: new Date(),
      });
      assert.equal(endorsement.ok, true, JSON.stringify(endorsement));
    } finally {
      await machine.stop();
    }
  });
}

test('a TPM with IAK and IDevID registers where they are asked for, and without them is refused', async () => {
  const strict = await startRegistrarProcess({
    KEYLIME_REGISTRAR_TPM_IDENTITY: 'iak_idevid',
    KEYLIME_TENANT_TPM_CERT_STORE: 'vendors',
  });
  const machine = await startTpmRegistrant();
  try {
    const maker = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const certificate = (subject: string, parts: Pick<Parameters<typeof forgeCertificate>[0], 'key' | 'extensions'>) =>
      forgeCertificate({
        subject: commonName(subject),
        issuer: commonName('maker'),
        signer: maker.privateKey,
        ...parts,
      });
    const root = certificate('maker', { key: maker.publicKey, extensions: [caExtension()] });
    await mkdir(path.join(strict.folder, 'vendors'));
    await writeFile(path.join(strict.folder, 'vendors', 'maker.pem'), certificatePem(root));

    const id = freshId();
    const idevid = await createIdevid(machine.tpm, IAK_TEMPLATES['H-1']);
    await flush(machine.tpm, idevid);
    const iak = await createIak(machine.tpm, IAK_TEMPLATES['H-1']);
    const qualifyingData = digest('sha256', Buffer.from(id));
    const { attest, signature } = await certify(machine.tpm, { object: machine.ak, signer: iak, qualifyingData });
    await flush(machine.tpm, iak);
    const extensions = [hardwareName('2.23.133.1.2', Buffer.from('serial'))];
    const device = {
      iak_tpm: encodePublic(iak.public).toString('base64'),
      idevid_tpm: encodePublic(idevid.public).toString('base64'),
      iak_cert: certificate('iak', { key: publicKey(iak.public), extensions }).toString('base64'),
      idevid_cert: certificate('idevid', { key: publicKey(idevid.public), extensions }).toString('base64'),
      iak_attest: attest.toString('base64'),
      iak_sign: signature.toString('base64'),
    };
    const post = (json: unknown) => strict.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json });
    const refused = await post(machine.body());
    assert.deepEqual([refused.code, refused.status], [400, INVALID_REGISTRATION]);
    const accepted = await post(machine.body(device));
    assert.equal(accepted.code, 200, accepted.text);
    const auth_tag = await machine.answer(String(accepted.results.blob), id);
    const activated = await strict.ask({ method: 'PUT', path: `/v2.6/agents/${id}`, json: { auth_tag } });
    assert.equal(activated.code, 200);
  } finally {
    await machine.stop();
    await strict.stop();
  }
});

describe('bad input', () => {
  const one = '/v2.6/agents/bad-input';
  const json = { 'content-type': 'application/json' };
  const post = (body: string | Buffer, headers: Record<string, string> = json) =>
    registrar.ask({ method: 'POST', path: one, body, headers });

  test('bodies that are not JSON, not UTF-8, of another type, or too large are refused in JSON', async () => {
    for (const [body, headers, code] of [
      ['{"ek_tpm": ', json, 400],
      [Buffer.from([0x22, 0xff, 0x22]), json, 400],
      ['{"__proto__": {"ek_tpm": "x"}}', json, 400],
      ['ek_tpm=x', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
      ['{}', {}, 415],
      [`{"ek_tpm": "${'A'.repeat(300 * 1024)}"}`, json, 413],
    ] as const) {
      const answer = await post(body, headers);
      assert.deepEqual([answer.code, answer.json.code], [code, code], answer.text);
    }
  });

  test('wrong types, truncated TPM structures and bodies that are no object are refused by name', async () => {
    const whole = softwareTpm().body();
    const ek = Buffer.from(String(whole.ek_tpm), 'base64');
    for (const [body, problem] of [
      [[], /ek_tpm/],
      [null, /ek_tpm/],
      [{ ...whole, ek_tpm: 5 }, /^ek_tpm: /],
      [{ ...whole, aik_tpm: { x: 1 } }, /^aik_tpm: /],
      [{ ...whole, port: 70000 }, /^port: /],
      [{ ...whole, ip: 'a b' }, /^ip: /],
      [{ ...whole, mtls_cert: 'no' }, /^mtls_cert: /],
      ...[1, 2, 20, 60, ek.length - 1].map(
        (n) => [{ ...whole, ek_tpm: ek.subarray(0, n).toString('base64') }, /^ek_tpm: /] as const,
      ),
    ] as const) {
      const answer = await post(JSON.stringify(body));
      assert.deepEqual([answer.code, answer.status], [400, INVALID_REGISTRATION]);
      assert.ok(
        Array.isArray(answer.results.problems) && answer.results.problems.some((text) => problem.test(String(text))),
        answer.text,
      );
    }
  });

  test('fields of the query and ids that are none are not taken', async () => {
    const tpm = softwareTpm();
    const query = new URLSearchParams({ port: '99', ip: '6.6.6.6', agent_id: 'other' }).toString();
    const { ip: _, port: __, ...body } = tpm.body();
    const id = freshId();
    const registered = await registrar.ask({ method: 'POST', path: `/v2.6/agents/${id}?${query}`, json: body });
    const auth_tag = tpm.answer(String(registered.results.blob), id);
    assert.equal((await registrar.ask({ method: 'PUT', path: `/v2.6/agents/${id}`, json: { auth_tag } })).code, 200);
    const { results } = await asAdmin('GET', `/v2.6/agents/${id}`);
    assert.deepEqual([results.ip, results.port], [null, null]);
    for (const bad of ['weird%20id', 'a%2Fb', 'x'.repeat(81), '%00', '..%2f', '%E4%B8%AD']) {
      const answer = await registrar.ask({ method: 'POST', path: `/v2.6/agents/${bad}`, json: body });
      assert.deepEqual([answer.code, answer.status], [400, INVALID_REGISTRATION], bad);
    }
    assert.equal((await registrar.ask({ method: 'POST', path: '/v2.6/agents', json: body })).code, 400);
  });

  test('an auth tag that is none is refused and harms nothing', async () => {
    const [tpm, id] = [softwareTpm(), freshId()];
    const target = `/v2.6/agents/${id}`;
    const registered = await registrar.ask({ method: 'POST', path: target, json: tpm.body() });
    for (const body of [{}, [], { auth_tag: 5 }, { auth_tag: null }, { auth_tag: 'x'.repeat(10_000) }]) {
      assert.equal((await registrar.ask({ method: 'PUT', path: target, json: body })).json.code, 400);
    }
    const auth_tag = tpm.answer(String(registered.results.blob), id);
    assert.equal((await registrar.ask({ method: 'PUT', path: target, json: { auth_tag } })).code, 200);
  });

  test('slow, half-open and garbled connections do not keep others waiting', async () => {
    const idle = Array.from({ length: 50 }, () => connect(registrar.plainPort, '127.0.0.1'));
    for (const [i, socket] of idle.entries()) {
      socket.on('error', () => {});
      if (i % 3 === 1)
        socket.write(
          'POST /v2.6/agents/slow HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{',
        );
      if (i % 3 === 2) socket.write('\x16\x03\x01 no HTTP\r\n\r\n');
    }
    const started = Date.now();
    assert.equal((await registrar.ask({ method: 'GET', path: '/version' })).code, 200);
    assert.ok(Date.now() - started < 2_000);
    for (const socket of idle) socket.destroy();
  });

  test('who floods is told to wait, and the others are not', async () => {
    const [tpm, id] = [softwareTpm(), freshId()];
    const target = `/v2.6/agents/${id}`;
    let refused: Awaited<ReturnType<RegistrarProcess['ask']>> | undefined;
    for (let i = 0; i < 40 && refused === undefined; i++) {
      const answer = await registrar.ask({ method: 'POST', path: target, json: tpm.body() });
      if (answer.code !== 200) refused = answer;
    }
    assert.deepEqual([refused?.code, refused?.json.code], [429, 429]);
    assert.ok(Number(refused?.headers['retry-after']) >= 1);
    assert.equal(
      (await registrar.ask({ method: 'POST', path: `/v2.6/agents/${freshId()}`, json: tpm.body() })).code,
      200,
    );
  });
});

for (const engine of ['sqlite', 'postgresql'] as const) {
  test(`an acknowledged registration and activation survive kill -9 on ${engine}`, async () => {
    const postgres = engine === 'postgresql' ? await startPostgres() : undefined;
    let stopped = false;
    const killed = await startRegistrarProcess(postgres ? { KEYLIME_REGISTRAR_DATABASE_URL: postgres.url } : {});
    try {
      const tpm = softwareTpm();
      const post = (id: string) => killed.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json: tpm.body() });
      const put = async (id: string, blob: unknown) =>
        killed.ask({ method: 'PUT', path: `/v2.6/agents/${id}`, json: { auth_tag: tpm.answer(String(blob), id) } });
      const [active, pending] = [await post('active'), await post('pending')];
      assert.equal((await put('active', active.results.blob)).code, 200);
      await killed.kill('SIGKILL');
      await killed.start();
      assert.equal((await killed.ask({ method: 'GET', path: '/v2.6/agents/active', as: killed.admin })).code, 200);
      assert.equal((await put('pending', pending.results.blob)).code, 200);
      const other = await killed.ask({ method: 'POST', path: '/v2.6/agents/active', json: softwareTpm().body() });
      assert.deepEqual([other.code, other.status], [403, IDENTITY_CHANGED]);
      if (postgres !== undefined) {
        await postgres.stop();
        stopped = true;
        const answer = await killed.ask({ method: 'GET', path: '/v2.6/agents/active', as: killed.admin });
        assert.deepEqual([answer.code, answer.json.code, answer.headers['retry-after']], [503, 503, '5'], answer.text);
      }
      assert.equal(await killed.kill('SIGTERM'), 0);
      assert.match(killed.output(), /Stopped/);
    } finally {
      await killed.stop();
      if (!stopped) await postgres?.stop();
    }
  });
}

test('the log begins with the lines that scripts wait for', () => {
  assert.match(
    registrar.output(),
    /Starting Keylime registrar\.\.\.\n.*Current API version: 2\.6\n.*Other supported API versions: 2\.0, /,
  );
});

test('--help, --version and --check do what they say, and what is wrong is told in one line', async () => {
  const run = (args: readonly string[], env: Record<string, string> = {}) =>
    promisify(execFile)(
      process.execPath,
      [path.join(import.meta.dirname, '..', 'bin', 'keylime_registrar.mjs'), ...args],
      {
        env: {
          KEYLIME_DIR: registrar.folder,
          KEYLIME_REGISTRAR_CONFIG: path.join(registrar.folder, 'registrar.conf'),
          KEYLIME_LOGGING_CONFIG: path.join(registrar.folder, 'logging.conf'),
          KEYLIME_TENANT_CONFIG: path.join(registrar.folder, 'tenant.conf'),
          KEYLIME_REGISTRAR_TLS_DIR: 'pki',
          KEYLIME_REGISTRAR_TRUSTED_CLIENT_CA: 'cacert.crt',
          ...env,
        },
      },
    ).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    );
  assert.match((await run(['--help'])).stdout, /^Usage: keylime_registrar/);
  assert.match((await run(['--version'])).stdout, /^keylime_registrar \d+\.\d+\.\d+\n$/);
  const good = await run(['--check']);
  assert.deepEqual([good.code, good.stderr], [0, '']);
  for (const [args, env, problem] of [
    [['--chekc'], {}, /chekc/],
    [['--check'], { KEYLIME_REGISTRAR_PORT: 'many' }, /KEYLIME_REGISTRAR_PORT: .*integer/],
    [['--check'], { KEYLIME_REGISTRAR_SERVER_CERT: 'nothing.crt' }, /Cannot read .*nothing\.crt \(ENOENT\)/],
    [['--check'], { KEYLIME_REGISTRAR_SERVER_CERT: 'cacert.crt' }, /Cannot use .*cacert\.crt/],
    [[], { KEYLIME_REGISTRAR_TLS_DIR: 'default' }, /start the verifier first/],
    [
      [],
      { KEYLIME_REGISTRAR_DATABASE_URL: 'postgresql://u:secret-word@127.0.0.1:1/x' },
      /cannot reach the database postgresql:\/\/u@127\.0\.0\.1:1/,
    ],
    [[], { KEYLIME_REGISTRAR_PORT: String(registrar.plainPort) }, /another program listens there/],
  ] as const) {
    const { code, stderr } = await run(args, env);
    assert.equal(code, 1, stderr);
    assert.match(stderr, problem);
    assert.doesNotMatch(stderr, /secret-word|^ {4}at /m);
  }
});
