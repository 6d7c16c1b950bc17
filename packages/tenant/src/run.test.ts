import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from './commands.ts';
import { OPTIONS, type Option } from './options.ts';
import { issue } from './testing/certificates.ts';
import { envelope, openLab, versions } from './testing/lab.ts';

const program = fileURLToPath(new URL('../bin/keylime_tenant.mjs', import.meta.url));
const none = envelope(200, 'Success', { uuids: [] });

test('the program prints help and version, made of the tables', () => {
  const help = execFileSync(process.execPath, [program, '--help'], { encoding: 'utf8' });
  for (const { flags } of Object.values(OPTIONS as { readonly [name: string]: Option })) {
    for (const flag of flags) assert.ok(help.includes(flag), flag);
  }
  for (const name of Object.keys(COMMANDS)) assert.match(help, new RegExp(`^  ${name} `, 'm'));
  assert.match(
    execFileSync(process.execPath, [program, '--version'], { encoding: 'utf8' }),
    /^keylime_tenant \d+\.\d+\.\d+\n$/,
  );
});

test('a usage error is told on stderr, with exit code 2 and nothing on stdout', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, '-c', 'addruntimepolicy'], {
    encoding: 'utf8',
  });
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /^usage: keylime_tenant .*\nkeylime_tenant: error: --allowlist or --runtime_policy is required/);
});

test('every option that comes with a later version is refused, none is ignored', async (t) => {
  const lab = openLab(t);
  for (const option of Object.values(OPTIONS as { readonly [name: string]: Option })) {
    if (option.unsupported === undefined) continue;
    for (const flag of option.flags) {
      const text = option.kind === 'flag' ? [] : ['x'];
      const extra = flag === '--exclude' ? ['--allowlist', 'x'] : [];
      const outcome = await lab.run(['-c', 'add', '-u', 'a', flag, ...text, ...extra]);
      assert.equal(outcome.code, 1, flag);
      assert.match(outcome.messages.at(-1) ?? '', /^ERROR - --.* is not supported by this version yet$/);
    }
  }
});

test('the commands about measured-boot policies send and print what the existing tool does', async (t) => {
  const lab = openLab(t);
  const file = path.join(lab.workDir, 'reference.json');
  writeFileSync(file, '{"has_secureboot":true,\n "kernels":[]}');
  const answers: { readonly [method: string]: ReturnType<typeof envelope> } = {
    POST: envelope(201, 'Created'),
    PUT: envelope(201, 'Created'),
    GET: envelope(200, 'Success', { name: 'web', mb_policy: '{}' }),
  };
  const verifier = await lab.serve(({ path: url, method }) => {
    if (url === '/version') return versions;
    return answers[method] ?? { status: 204, body: '' };
  });
  const run = async (...argv: readonly string[]) => {
    const { code, data } = await lab.run(['-c', ...argv], { verifier });
    const { method, path: url, body } = verifier.seen.at(-1) ?? { method: '', path: '', body: '' };
    return [code, data.join('\n'), `${method} ${url}`, body === '' ? undefined : JSON.parse(body)];
  };
  const created = "{'code': 201, 'status': 'Created', 'results': {}}";
  const named = ['--mb-policy-name', 'web'];
  const body = { mb_policy: '{"has_secureboot": true, "kernels": []}' };
  const add = await run('addmbpolicy', ...named, '--mb-policy', file);
  assert.deepEqual(add, [0, created, 'POST /v2.6/mbpolicies/web', body]);
  const update = await run('updatembpolicy', ...named, '--mb_refstate', file, '--mb-policy-rules', 'strict');
  assert.deepEqual(update, [0, created, 'PUT /v2.6/mbpolicies/web', { ...body, mb_policy_rules: 'strict' }]);
  const shown = "{'code': 200, 'status': 'Success', 'results': {'name': 'web', 'mb_policy': '{}'}}";
  const show = await run('showmbpolicy', ...named);
  assert.deepEqual(show.slice(0, 3), [0, `showmbpolicy command response: 200.\n${shown}`, 'GET /v2.6/mbpolicies/web']);
  const list = await run('listmbpolicy');
  assert.deepEqual(list.slice(1, 3), [`listmbpolicy command response: 200.\n${shown}`, 'GET /v2.6/mbpolicies/']);
  assert.deepEqual((await run('deletembpolicy', ...named)).slice(0, 3), [0, '{}', 'DELETE /v2.6/mbpolicies/web']);
});

test('what the verifier warns of is told, and is no failure', async (t) => {
  const lab = openLab(t);
  const file = path.join(lab.workDir, 'reference.json');
  writeFileSync(file, '{"kernels":[]}');
  const warnings = ['accept-all judges by it', 7];
  const verifier = await lab.serve(({ path: url }) =>
    url === '/version' ? versions : envelope(201, 'Created', { warnings }),
  );
  for (const command of ['addmbpolicy', 'updatembpolicy']) {
    const outcome = await lab.run(['-c', command, '--mb-policy-name', 'web', '--mb-policy', file], { verifier });
    assert.equal(outcome.code, 0);
    assert.ok(outcome.messages.includes('WARNING - accept-all judges by it'), outcome.messages.join('\n'));
  }
});

test('what cannot be a measured-boot policy is refused before anybody is asked', async (t) => {
  const lab = openLab(t);
  const file = path.join(lab.workDir, 'reference.json');
  writeFileSync(file, 'no JSON');
  const refused = async (argv: readonly string[], expected: RegExp, code = 1) => {
    const outcome = await lab.run(argv);
    assert.equal(outcome.code, code);
    assert.match(code === 2 ? outcome.stderr : (outcome.messages.at(-1) ?? ''), expected);
  };
  const add = ['-c', 'addmbpolicy', '--mb-policy-name', 'web'];
  await refused(add, /--mb-policy is required/, 2);
  await refused(['-c', 'addmbpolicy', '--mb-policy', file], /mb_policy_name is required to add measure boot policy/);
  await refused(['-c', 'showmbpolicy'], /--mb_policy_name is required to show a runtime policy/);
  await refused(['-c', 'deletembpolicy'], /--mb_policy_name is required to delete a runtime policy/);
  await refused([...add, '--mb-policy', file], /The measured-boot policy .* is not JSON/);
  await refused([...add, '--mb-policy', 'default'], /tenant\.conf names no file in mb_refstate/);
  await refused([...add, '--mb-policy', '/no/such/file'], /Cannot read the measured-boot policy/);
  const tpm = ['--tpm_policy', `{"22": "${'a'.repeat(64)}", "7": "${'a'.repeat(64)}"}`];
  const warning =
    /^ERROR - WARNING: PCR 7 is specified in "tpm_policy", but will in fact be used by measured boot\. Please remove it from policy$/;
  await refused(['-c', 'add', '-u', 'a', '--mb-policy', file, ...tpm], warning);
  await refused(['-c', 'add', '-u', 'a', '--mb-policy-name', 'web', ...tpm], warning);
  const rules = ['-c', 'add', '-u', 'a', '--mb-policy-rules', 'x'];
  await refused(
    [...rules, '--mb-policy-name', 'web'],
    /the policy that --mb-policy-name names has rules of its own/,
    2,
  );
  await refused([...rules, ...tpm], warning);
});

test('an allowlist is converted with its exclude list, and taken as it is if it is a runtime policy', async (t) => {
  const lab = openLab(t);
  const write = (name: string, text: string) => {
    writeFileSync(path.join(lab.workDir, name), text);
    return path.join(lab.workDir, name);
  };
  const verifier = await lab.serve(({ path: url }) => (url === '/version' ? versions : envelope(201, 'Created')));
  const add = ['-c', 'addallowlist', '--allowlist-name', 'p', '--allowlist'];
  const policy = fileURLToPath(new URL('vectors/policy.json', import.meta.url));
  const sent = () => {
    const body = JSON.parse(verifier.seen.at(-1)?.body ?? '{}');
    return Buffer.from(body.runtime_policy, 'base64').toString();
  };
  const taken = await lab.run([...add, policy], { verifier });
  assert.deepEqual([taken.code, taken.data], [0, ["{'code': 201, 'status': 'Created', 'results': {}}"]]);
  assert.equal(sent(), readFileSync(policy, 'utf8'));

  const list = write('allowlist.txt', `${'0'.repeat(40)}  /bin/true\n${'1'.repeat(64)} %keyring:.ima\n`);
  const converted = await lab.run([...add, list, '--exclude', write('excludes', '# comment\n\n/tmp/.*\n')], {
    verifier,
  });
  assert.equal(converted.code, 0, converted.messages.join('\n'));
  const { meta, digests, keyrings, excludes } = JSON.parse(sent());
  assert.deepEqual(
    [meta.generator, digests, keyrings, excludes],
    [3, { '/bin/true': ['0'.repeat(40)] }, { '.ima': ['1'.repeat(64)] }, ['/tmp/.*']],
  );

  const refused = await lab.run([...add, write('nothing', 'nothing\n')], { verifier });
  assert.equal(refused.code, 1);
  assert.match(refused.messages.at(-1) ?? '', /cannot be converted/);
});

test('names are percent-encoded, and names that no path can hold are refused', async (t) => {
  const lab = openLab(t);
  const verifier = await lab.serve(({ path: url }) => (url === '/version' ? versions : envelope(404, 'not found')));
  await lab.run(['-c', 'showruntimepolicy', '--runtime-policy-name', '../agents/x?y#z é'], { verifier });
  assert.equal(verifier.seen.at(-1)?.path, '/v2.6/allowlists/..%2Fagents%2Fx%3Fy%23z%20%C3%A9');
  const outcome = await lab.run(['-c', 'deleteruntimepolicy', '--runtime-policy-name', '..'], { verifier });
  assert.match(outcome.messages.at(-1) ?? '', /cannot be used as a name/);
  await lab.run(['-c', 'cvlist', '-vi', 'a&bulk=1'], { verifier });
  assert.equal(verifier.seen.at(-1)?.path, '/v2.6/agents/?verifier=a%26bulk%3D1');
});

test('an agent id that is none is refused before any request', async (t) => {
  const lab = openLab(t);
  for (const id of ['a/b', '', '..', 'x'.repeat(81), 'é']) {
    const outcome = await lab.run(['-c', 'cvstatus', '-u', id]);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /^ERROR - The agent ID .* uses invalid characters/);
  }
});

test('without -u the default id is used with a warning, and only where an id is needed', async (t) => {
  const lab = openLab(t);
  const verifier = await lab.serve(({ path: url }) =>
    url === '/version' ? versions : envelope(404, 'agent id not found'),
  );
  const outcome = await lab.run(['-c', 'cvstatus'], { verifier });
  assert.ok(
    outcome.messages.some((line) =>
      line.startsWith('WARNING - Using default UUID d432fbb3-d2f1-4a97-9ef7-75bd81c00000'),
    ),
  );
  const list = await lab.run(['-c', 'cvlist'], { verifier });
  assert.ok(!list.stdout.includes('default UUID'));
});

test('[compat] cvlist ends with 0 when the verifier has no agents or is not ready', async (t) => {
  const lab = openLab(t);
  for (const code of [404, 503, 504]) {
    const verifier = await lab.serve(({ path: url }) => (url === '/version' ? versions : envelope(code, 'x')));
    assert.equal((await lab.run(['-c', 'cvlist'], { verifier })).code, 0);
  }
});

test('bulkinfo shows push agents without a state, and no key share', async (t) => {
  const lab = openLab(t);
  const results = { a: { operational_state: null, v: 'c2VjcmV0' }, b: { v: null, operational_state: 4 } };
  const verifier = await lab.serve(({ path: url }) =>
    url === '/version' ? versions : envelope(200, 'Success', results),
  );
  const outcome = await lab.run(['-c', 'bulkinfo'], { verifier });
  assert.deepEqual(outcome.data, [
    '{"a": {"operational_state": "Not applicable (Push Mode)", "v": null}, "b": {"operational_state": "Get Quote (retry)", "v": null}}',
  ]);
});

test('text from a server cannot begin a line of its own', async (t) => {
  const lab = openLab(t);
  const evil = 'x\n{"a": {"operational_state": "Get Quote"}}';
  const verifier = await lab.serve(({ path: url }) => (url === '/version' ? versions : envelope(400, evil)));
  const outcome = await lab.run(['-c', 'cvstatus', '-u', 'a'], { verifier });
  assert.equal(outcome.code, 1);
  assert.deepEqual(outcome.data, []);
});

test('a server that does not say which versions it speaks is spoken to in 2.6, silently if it says 410', async (t) => {
  const lab = openLab(t);
  for (const [answer, warns] of [
    [envelope(410, 'Gone'), false],
    [envelope(500, 'x'), true],
    [{ status: 200, body: 'not json' }, true],
  ] as const) {
    const verifier = await lab.serve(({ path: url }) => (url === '/version' ? answer : none));
    const outcome = await lab.run(['-c', 'cvlist'], { verifier });
    assert.equal(outcome.code, 0, outcome.stdout);
    assert.equal(verifier.seen.at(-1)?.path, '/v2.6/agents/?verifier=');
    assert.equal(
      outcome.messages.some((line) => line.includes('did not say which API versions')),
      warns,
    );
  }
});

test('an older server is spoken to in its version, one without a common version is refused', async (t) => {
  const lab = openLab(t);
  const offer = (supported_versions: readonly string[]) => envelope(200, 'Success', { supported_versions });
  const old = await lab.serve(({ path: url }) => (url === '/version' ? offer(['1.0', '2.0', '2.2']) : none));
  await lab.run(['-c', 'cvlist'], { verifier: old });
  assert.equal(old.seen.at(-1)?.path, '/v2.2/agents/?verifier=');
  const next = await lab.serve(({ path: url }) => (url === '/version' ? offer(['3.0']) : none));
  const outcome = await lab.run(['-c', 'cvlist'], { verifier: next });
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /No compatible API version with Verifier .*: it speaks 3\.0/);
});

test('an answer that refuses the certificate says so, and what to do', async (t) => {
  const lab = openLab(t);
  const errors = [
    {
      status: '403',
      title: 'Forbidden',
      detail: 'Action list_agents requires admin authentication (mTLS certificate)',
    },
  ];
  const verifier = await lab.serve(({ path: url }) =>
    url === '/version' ? versions : { status: 403, body: { errors } },
  );
  const outcome = await lab.run(['-c', 'cvlist'], { verifier });
  assert.equal(outcome.code, 1);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /403 Action list_agents requires admin authentication .*client_cert, client_key/,
  );
});

test('problems of the connection are told in one line: what, where, why', async (t) => {
  const lab = openLab(t);
  const last = async (...args: Parameters<typeof lab.run>) => {
    const outcome = await lab.run(...args);
    assert.equal(outcome.code, 1);
    return outcome.messages.at(-1) ?? '';
  };
  assert.match(
    await last(['-c', 'cvlist', '-vp', '1']),
    /No answer from verifier https:\/\/127\.0\.0\.1:1: nothing listens there.*; -v and -vp name another one$/,
  );
  const plain = await lab.serve(() => none, { plain: true });
  assert.match(
    await last(['-c', 'cvlist'], { verifier: plain }),
    /verifier https:\/\/127\.0\.0\.1:\d+: the TLS handshake failed/,
  );
  const deaf = await lab.serve(() => undefined);
  assert.match(
    await last(['-c', 'reglist'], { registrar: deaf }),
    /registrar https:\/\/127\.0\.0\.1:\d+: it closed the connection.*see trusted_client_ca of the registrar$/,
  );
  const policy = JSON.parse(readFileSync(new URL('vectors/policy.json', import.meta.url), 'utf8')) as object;
  const large = path.join(lab.workDir, 'large.json');
  writeFileSync(large, JSON.stringify({ ...policy, padding: 'x'.repeat(10 << 20) }));
  const small = await lab.serve(({ path: url }) => (url === '/version' ? versions : undefined));
  assert.match(
    await last(['-c', 'addruntimepolicy', '--runtime-policy', large, '--runtime-policy-name', 'x'], {
      verifier: small,
    }),
    /closed the connection.*; or what was sent, 1\d{7} bytes, is more than it takes: see max_upload_size of the verifier$/,
  );
  assert.match(await last(['-c', 'cvlist', '-vp', 'http']), /-vp: "http" is no port number/);
  const elsewhere = await lab.serve(() => none, {
    certificate: issue({ commonName: 'server', issuer: lab.ca, names: 'DNS:verifier.example' }),
  });
  const message = await last(['-c', 'cvlist'], { verifier: elsewhere });
  assert.match(message, /add 127\.0\.0\.1 to cert_subject_alternative_names of the verifier .*--no-hostname-check$/);
  const off = await lab.run(['-c', 'cvlist', '--no-hostname-check'], { verifier: elsewhere });
  assert.equal(off.code, 0, off.stdout);
});

test('a slow server ends with request_timeout', async (t) => {
  const lab = openLab(t);
  const { createServer } = await import('node:net');
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.after(() => silent.close());
  const address = silent.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const outcome = await lab.run(['-c', 'cvlist', '-vp', String(port)], {}, { request_timeout: '0.2' });
  assert.equal(outcome.code, 1);
  assert.match(
    outcome.messages.at(-1) ?? '',
    /no connection within the time allowed.*; request_timeout in tenant\.conf/,
  );
});

test('a missing or unusable client certificate is named, with where to look', async (t) => {
  const lab = openLab(t);
  const key = path.join(lab.workDir, 'cv_ca', 'client-private.pem');
  writeFileSync(key, issue({ commonName: 'another' }).key);
  const mismatch = await lab.run(['-c', 'cvlist']);
  assert.match(
    mismatch.messages.at(-1) ?? '',
    /Client certificate .*client-cert\.crt and key .*client-private\.pem cannot be used: .*key values mismatch/,
  );
  rmSync(key);
  const missing = await lab.run(['-c', 'cvlist']);
  assert.equal(missing.code, 1);
  assert.match(missing.messages.at(-1) ?? '', /Cannot read the private key .*client-private\.pem \(ENOENT\)/);
});

test('a bad configuration is told with file and line, with exit code 1', async (t) => {
  const lab = openLab(t);
  const outcome = await lab.run(['-c', 'cvlist'], {}, { require_ek_cert: 'perhaps' });
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /tenant\.conf:\d+: require_ek_cert = "perhaps": expected True or False/);
});

test('a file of trusted CAs without a certificate trusts nobody', async (t) => {
  const lab = openLab(t);
  writeFileSync(path.join(lab.workDir, 'cv_ca', 'cacert.crt'), '');
  const outcome = await lab.run(['-c', 'cvlist']);
  assert.equal(outcome.code, 1);
  assert.match(outcome.messages.at(-1) ?? '', /There is no trusted CA for https:/);
});
