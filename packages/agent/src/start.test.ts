import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { QuoteResults } from '@keylime/api/agent/quote';
import { digest, extend } from '@keylime/core/digest';
import { type AgentConfig, loadAgentConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';
import { DATA_PCR } from '@keylime/tpm/pcr-selection';
import { decodePublic } from '@keylime/tpm/public';
import { verifyQuote } from '@keylime/tpm/quote';
import { parseAgentData } from './agent-data.ts';
import { type RunningAgent, startAgent } from './start.ts';
import { startTestRegistrar, type TestRegistrar } from './test-registrar.ts';
import { openKeys } from './tpm-keys.ts';
import { tpmSettings } from './tpm-settings.ts';

const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';
const ENTRY = `10 ${'0'.repeat(38)}01 ima-ng sha256:${'ab'.repeat(32)} /usr/bin/first\n`;

/** A tmpfs: nothing has to be mounted for payloads there. */
const MEMORY = '/dev/shm';

let folder: string;
let tpm: Swtpm;
let registrar: TestRegistrar;
let ca: TestCa;
let verifier: TestIdentity;

before(async () => {
  folder = mkdtempSync(join(MEMORY, 'keylime-agent-'));
  tpm = await startSwtpm({ banks: ['sha1', 'sha256'] });
  registrar = await startTestRegistrar();
  ca = await testCa();
  verifier = await ca.issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
});
after(async () => {
  await registrar.close();
  await tpm.stop();
  rmSync(folder, { recursive: true });
});

let homes = 0;
/** A `keylime_dir` with the verifier's CA, a measurement list and a boot log. */
function newHome(): string {
  const home = join(folder, `home-${homes++}`);
  mkdirSync(join(home, 'cv_ca'), { recursive: true });
  writeFileSync(join(home, 'cv_ca', 'cacert.crt'), ca.certPem);
  writeFileSync(join(home, 'list'), ENTRY);
  writeFileSync(join(home, 'boot'), 'events');
  return home;
}

function configOf(home: string, options: Readonly<Record<string, string>> = {}): AgentConfig {
  const env: Record<string, string> = {
    KEYLIME_DIR: home,
    KEYLIME_AGENT_REGISTRAR_PORT: String(registrar.port),
    KEYLIME_AGENT_IMA_ML_PATH: join(home, 'list'),
    KEYLIME_AGENT_MEASUREDBOOT_ML_PATH: join(home, 'boot'),
    KEYLIME_AGENT_EXPONENTIAL_BACKOFF_INITIAL_DELAY: '1',
  };
  for (const [name, value] of Object.entries(options)) env[`KEYLIME_AGENT_${name.toUpperCase()}`] = value;
  const roots = { etc: join(home, 'etc'), usrEtc: join(home, 'usr') };
  return { ...loadAgentConfig({ env, roots, isRoot: false }).config, port: 0 };
}

async function withAgent<T>(
  config: AgentConfig,
  use: (agent: RunningAgent, lines: readonly string[]) => Promise<T>,
  tcti = tpm.tcti,
): Promise<T> {
  const lines: string[] = [];
  const log = openLog({ name: 'keylime.agent', level: 'debug', destination: { write: (line) => lines.push(line) } });
  const agent = await startAgent(config, log, { tcti });
  try {
    return await use(agent, lines);
  } finally {
    await agent.close();
  }
}

const start = async (config: AgentConfig) => withAgent(config, async ({ agentId }) => agentId);

function addressOf({ address }: RunningAgent) {
  assert.ok(address);
  return address;
}

/** GET of the JSON at `path`, as `client` over TLS, or over plain HTTP. */
function get(agent: RunningAgent, path: string, client: Partial<TestIdentity> | 'plain' = verifier) {
  const { host, port } = addressOf(agent);
  return new Promise<{
    readonly status: number;
    readonly json: { readonly status: string; readonly results: unknown };
  }>((resolve, reject) => {
    const tls = client === 'plain' ? {} : { cert: client.certPem, key: client.keyPem, rejectUnauthorized: false };
    const send = client === 'plain' ? httpRequest : httpsRequest;
    const call = send({ host, port, path, agent: false, ...tls }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        resolve({ status: answer.statusCode ?? 0, json: JSON.parse(Buffer.concat(chunks).toString()) });
      });
    });
    call.on('error', reject);
    call.end();
  });
}

async function quoteOf(agent: RunningAgent, nonce: string, mask: number, more = '&partial=0&ima_ml_entry=0') {
  const path = `/v2.6/quotes/integrity?nonce=${nonce}&mask=0x${mask.toString(16)}${more}`;
  const { status, json } = await get(agent, path);
  assert.equal(status, 200, json.status);
  return json.results as QuoteResults;
}

const lastRegistration = () => {
  const last = registrar.registered.at(-1);
  assert.ok(last);
  return last;
};

const registeredAk = () => decodePublic(Buffer.from(lastRegistration().body.aik_tpm, 'base64'));

function verified(results: QuoteResults, nonce: string, mask: number) {
  const expected = { ak: registeredAk(), hashAlg: 'sha256' as const, nonce: Buffer.from(nonce), mask };
  const result = verifyQuote({ ...expected, text: results.quote });
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.failure));
  return result.quote;
}

test('an agent registers, opens the challenge, and is then attested over mTLS with the key bound to PCR 16', async () => {
  const home = newHome();
  await withAgent(configOf(home), async (agent) => {
    assert.equal(agent.agentId, AGENT_ID);
    const { agentId, body, activated } = lastRegistration();
    assert.deepEqual([agentId, activated], [AGENT_ID, true]);
    assert.deepEqual([body.ip, body.port, body.iak_cert, body.idevid_cert], ['127.0.0.1', 9002, null, null]);
    assert.match(body.ekcert ?? '', /^-----BEGIN CERTIFICATE-----/);
    assert.equal(new X509Certificate(body.mtls_cert).subject, `CN=${AGENT_ID}`);

    const results = await quoteOf(agent, 'AbCdEfGhIjKlMnOpQrSt', 0x401);
    const quote = verified(results, 'AbCdEfGhIjKlMnOpQrSt', 0x401);
    assert.deepEqual([results.hash_alg, results.enc_alg, results.sign_alg], ['sha256', 'rsa2048', 'rsassa']);
    const bound = extend('sha256', Buffer.alloc(32), digest('sha256', Buffer.from(results.pubkey ?? '')));
    assert.deepEqual(quote.pcrs.get(DATA_PCR), bound);
    assert.equal(results.ima_measurement_list, ENTRY);
    assert.equal(results.mb_measurement_list, Buffer.from('events').toString('base64'));
    assert.equal(results.boottime, undefined);

    appendFileSync(join(home, 'list'), ENTRY);
    const more = await quoteOf(agent, 'b', 0x400, '&partial=1&ima_ml_entry=1');
    verified(more, 'b', 0x400);
    assert.deepEqual([more.ima_measurement_list, more.ima_measurement_list_entry], [ENTRY, 1]);
    assert.equal(more.pubkey, undefined);
    assert.equal(more.mb_measurement_list, undefined);
  });
});

test('an identity quote verifies in every version, and quotes at the same time do not mix', async () => {
  await withAgent(configOf(newHome()), async (agent) => {
    const versions = ['2.1', '2.4', '2.5', '2.6'];
    const answers = await Promise.all(
      versions.map((version) => get(agent, `/v${version}/quotes/identity?nonce=n${version.at(-1)}`)),
    );
    for (const [index, version] of versions.entries()) {
      const results = answers[index]?.json.results as QuoteResults;
      verified(results, `n${version.at(-1)}`, 0);
      assert.equal(results.enc_alg, version < '2.5' ? 'rsa' : 'rsa2048');
      assert.ok(results.pubkey);
    }
  });
});

test('the AK and every key and certificate are the same after a restart, and private files are private', async () => {
  const home = newHome();
  await start(configOf(home));
  const first = lastRegistration().body;
  const file = (name: string) => readFileSync(join(home, name), 'utf8');
  const names = ['agent_data.json', 'server-private.pem', 'payload-private.pem'];
  const before = names.map(file);
  await start(configOf(home));
  const second = lastRegistration().body;
  assert.deepEqual([second.aik_tpm, second.ek_tpm, second.mtls_cert], [first.aik_tpm, first.ek_tpm, first.mtls_cert]);
  assert.deepEqual(names.map(file), before);
  for (const name of names) assert.equal(statSync(join(home, name)).mode & 0o777, 0o600, name);
  const data = parseAgentData(file('agent_data.json'));
  assert.equal(data.ok && data.value.akPublic.equals(Buffer.from(second.aik_tpm, 'base64').subarray(2)), true);
});

test('an AK that does not fit any more is replaced, and the log says what that means', async () => {
  const home = newHome();
  await start(configOf(home));
  const first = lastRegistration().body.aik_tpm;
  await withAgent(configOf(home, { tpm_signing_alg: 'rsapss' }), async (_agent, lines) => {
    assert.notEqual(lastRegistration().body.aik_tpm, first);
    assert.match(lines.join(''), /ERROR - The AK that was kept cannot be used.*registrar will refuse/);
  });
  writeFileSync(join(home, 'agent_data.json'), '{');
  await withAgent(configOf(home), async (_agent, lines) => {
    assert.match(lines.join(''), /ERROR - The file that keeps the AK is damaged/);
  });
});

test('every kind of AK that a verifier accepts attests', async () => {
  for (const [encryption, signing, hash, name] of [
    ['ecc', 'ecdsa', 'sha256', 'ecc256'],
    ['ecc384', 'ecdsa', 'sha256', 'ecc384'],
    ['rsa', 'rsapss', 'sha256', 'rsa2048'],
  ] as const) {
    const options = { tpm_encryption_alg: encryption, tpm_signing_alg: signing, tpm_hash_alg: hash };
    await withAgent(configOf(newHome(), options), async (agent) => {
      assert.equal(lastRegistration().activated, true);
      const results = await quoteOf(agent, 'n', 0x3ff);
      const quote = verified(results, 'n', 0x3ff);
      assert.deepEqual([quote.encAlg, quote.signAlg], [name, signing]);
      assert.deepEqual([results.enc_alg, results.sign_alg], [name, signing]);
    });
  }
});

test('hash_ek is the name of the machine, and its EK certificate belongs to the EK', async () => {
  const id = await start(configOf(newHome(), { uuid: 'hash_ek' }));
  assert.match(id, /^[0-9a-f]{64}$/);
  assert.equal(await start(configOf(newHome(), { uuid: 'hash_ek' })), id);
  assert.equal(lastRegistration().agentId, id);
});

test('with IAK and IDevID the registration carries both keys and a proof that the AK is in their TPM', async () => {
  const options = { enable_iak_idevid: 'true', iak_cert: '', idevid_cert: '', iak_idevid_template: 'H-2' };
  await withAgent(configOf(newHome(), options), async () => {
    const { body, activated } = lastRegistration();
    assert.equal(activated, true);
    assert.equal(decodePublic(Buffer.from(body.iak_tpm ?? '', 'base64')).type, 'ecc');
    assert.equal(decodePublic(Buffer.from(body.idevid_tpm ?? '', 'base64')).type, 'ecc');
    assert.ok(body.iak_attest && body.iak_sign);
  });
});

test('[MUST] a device certificate for another key stops the agent', async () => {
  const home = newHome();
  writeFileSync(join(home, 'iak-cert.crt'), verifier.certPem);
  const config = configOf(home, { enable_iak_idevid: 'true', idevid_cert: '' });
  await assert.rejects(start(config), { code: 'certificate_mismatch' });
  const missing = configOf(newHome(), { enable_iak_idevid: 'true' });
  await assert.rejects(start(missing), { code: 'file_unreadable', message: /iak_cert/ });
});

test('[MUST] without a client certificate of the trusted CA nothing is answered', async () => {
  const stranger = await (await testCa('Other CA')).issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
  const old = await ca.issue({ commonNames: ['verifier'], notBefore: new Date(0), notAfter: new Date(86_400_000) });
  await withAgent(configOf(newHome()), async (agent) => {
    for (const client of [{}, stranger, old]) {
      await assert.rejects(get(agent, '/version', client), (error: NodeJS.ErrnoException) => error.code !== undefined);
    }
    await assert.rejects(get(agent, '/version', 'plain'));
    assert.equal((await get(agent, '/version')).status, 200);
  });
});

test('without mTLS the agent serves plain HTTP, says so, and registers no certificate', async () => {
  const options = { enable_agent_mtls: 'false', payload_script: '' };
  await withAgent(configOf(newHome(), options), async (agent, lines) => {
    assert.equal(lastRegistration().body.mtls_cert, 'disabled');
    assert.equal((await get(agent, '/v2.6/quotes/identity?nonce=a', 'plain')).status, 200);
    assert.match(lines.join(''), /WARNING - enable_agent_mtls is off/);
  });
});

test('a half-open connection and one that never speaks TLS do not hold up others', async () => {
  await withAgent(configOf(newHome()), async (agent) => {
    const silent = Array.from({ length: 20 }, () => connect(addressOf(agent).port, addressOf(agent).host));
    for (const socket of silent) socket.on('error', () => {}).write('G');
    assert.equal((await get(agent, '/v2.6/quotes/identity?nonce=a')).status, 200);
    for (const socket of silent) socket.destroy();
  });
});

test('a registrar that is busy is tried again, and 403 ends the agent with an explanation', async () => {
  registrar.refusals.push({ status: 503, retryAfter: '0' }, { status: 500 });
  await start(configOf(newHome()));
  assert.equal(registrar.refusals.length, 0);
  registrar.refusals.push({ status: 403 });
  await assert.rejects(start(configOf(newHome())), { code: 'registration_refused', message: /regdelete/ });
});

test('a registrar that is not there is given up after the last retry', async () => {
  const config = configOf(newHome(), { registrar_port: '1', exponential_backoff_max_retries: '2' });
  await assert.rejects(start(config), { code: 'retry_later', message: /127\.0\.0\.1:1/ });
});

test('the agent registers over TLS with the CA that it is told, and with no other', async () => {
  const identity = await ca.issue({ commonNames: ['registrar'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  const secure = await startTestRegistrar({ cert: identity.certPem, key: identity.keyPem });
  try {
    const home = newHome();
    const options = {
      registrar_tls_enabled: 'true',
      registrar_tls_port: String(secure.port),
      exponential_backoff_max_retries: '0',
    };
    await start(configOf(home, options));
    assert.equal(secure.registered.at(-1)?.activated, true);
    writeFileSync(join(home, 'other.crt'), (await testCa('Other CA')).certPem);
    const wrong = configOf(home, { ...options, registrar_tls_ca_cert: 'other.crt' });
    await assert.rejects(start(wrong), { code: 'retry_later', message: /CA/ });
  } finally {
    await secure.close();
  }
});

test('a TPM that was restarted while the agent runs is opened again with the same AK', async () => {
  const own = await startSwtpm({ certificates: false });
  try {
    const config = configOf(newHome());
    await withAgent(
      config,
      async (agent, lines) => {
        verified(await quoteOf(agent, 'a', 0), 'a', 0);
        await own.kill();
        assert.equal((await get(agent, '/v2.6/quotes/identity?nonce=b')).json.status, 'Unable to retrieve quote');
        await own.restart();
        verified(await quoteOf(agent, 'c', 0), 'c', 0);
        assert.match(lines.join(''), /Unable to retrieve quote reason="TPM emulator/);
        assert.match(lines.join(''), /The TPM is open again/);
      },
      own.tcti,
    );
  } finally {
    await own.stop();
  }
});

test('a PCR bank that is not active stops the start, and the active ones are named', async () => {
  const sha384 = configOf(newHome(), { tpm_hash_alg: 'sha384' });
  await assert.rejects(start(sha384), { code: 'pcr_bank_inactive', message: /active: sha1, sha256/ });
});

test('agents that were killed leave keys in a TPM without resource manager; the next one makes room', async () => {
  const own = await startSwtpm({ certificates: false });
  try {
    const home = newHome();
    for (let i = 0; i < 3; i++) {
      const log = openLog({ name: 'x', level: 'critical', destination: { write: () => {} } });
      const settings = tpmSettings(configOf(home), own.tcti);
      const { tpm: left } = await openKeys(settings, undefined, log);
      await left.close();
    }
    await withAgent(configOf(home), async (agent) => void (await quoteOf(agent, 'a', 0)), own.tcti);
  } finally {
    await own.stop();
  }
});

test('what the configuration gets wrong is told before anything is opened', async () => {
  const rejects = (options: Record<string, string>, code: string, message: RegExp) =>
    assert.rejects(start(configOf(newHome(), options)), { code, message });
  await rejects({ tpm_encryption_alg: 'ecc' }, 'algorithm_unsupported', /tpm_signing_alg.*ecdsa/);
  await rejects({ tpm_encryption_alg: 'rsa1024' }, 'algorithm_unsupported', /rsa2048/);
  await rejects({ tpm_ownerpassword: 'hex:0' }, 'password_malformed', /tpm_ownerpassword/);
  await rejects({ trusted_client_ca: 'nothing.crt' }, 'client_ca_unusable', /nothing\.crt/);
  assert.throws(() => configOf(newHome(), { tpm_hash_alg: 'sha265' }), {
    code: 'config_invalid',
    message: /did you mean "sha256"/,
  });
  const gone = { ...configOf(newHome()), keylime_dir: join(folder, 'nowhere') };
  await assert.rejects(start(gone), { code: 'file_unreadable', message: /nowhere/ });
});
