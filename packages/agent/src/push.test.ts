import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { QuoteCapabilities } from '@keylime/api/push-capabilities';
import { problemDocument } from '@keylime/api/push-document';
import type { RequestedEvidence } from '@keylime/api/push-parameters';
import { type AgentConfig, loadAgentConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { type TestCa, testCa } from '@keylime/testing/test-certificates';
import { decodePublic, objectName } from '@keylime/tpm/public';
import { encodeQuote, verifyQuote } from '@keylime/tpm/quote';
import { startAgent } from './start.ts';
import { startTestRegistrar, type TestRegistrar } from './test-registrar.ts';
import { type Exchange, startTestVerifier, type TestVerifier } from './test-verifier.ts';

const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';
const ATTESTATIONS = `/v3.0/agents/${AGENT_ID}/attestations`;
const entry = (i: number) =>
  `10 ${i.toString(16).padStart(40, '0')} ima-ng sha256:${'ab'.repeat(32)} /usr/bin/tool-${i}\n`;

const quoteOf = (pcrs: readonly number[], scheme = 'rsassa'): RequestedEvidence => ({
  evidence_class: 'certification',
  evidence_type: 'tpm_quote',
  chosen_parameters: {
    challenge: 'put in by the verifier',
    signature_scheme: scheme,
    hash_algorithm: 'sha256',
    selected_subjects: { sha256: [...pcrs], sha1: null },
  },
});
const imaFrom = (offset: number): RequestedEvidence => ({
  evidence_class: 'log',
  evidence_type: 'ima_log',
  chosen_parameters: { starting_offset: offset, format: 'text/plain' },
});
const UEFI_LOG: RequestedEvidence = {
  evidence_class: 'log',
  evidence_type: 'uefi_log',
  chosen_parameters: { format: 'application/octet-stream' },
};

let folder: string;
let tpm: Swtpm;
let ca: TestCa;
let registrar: TestRegistrar;
let verifier: TestVerifier;
let homes = 0;

const newVerifier = async (port?: number) =>
  startTestVerifier(await ca.issue({ purpose: 'serverAuth', names: ['127.0.0.1'] }), {
    clientCaPem: ca.certPem,
    ...(port !== undefined && { port }),
  });

before(async () => {
  // In memory: with `push_listen` payloads are taken.
  folder = mkdtempSync('/dev/shm/keylime-push-');
  tpm = await startSwtpm({ banks: ['sha1', 'sha256'] });
  ca = await testCa();
});
after(async () => {
  await tpm.stop();
  rmSync(folder, { recursive: true });
});
beforeEach(async (context) => {
  registrar = await startTestRegistrar();
  verifier = await newVerifier();
  verifier.wanted = [quoteOf([0, 10]), UEFI_LOG, imaFrom(0)];
  verifier.secondsToNext = 3600;
  if ('after' in context) {
    context.after(() => registrar.close());
    context.after(() => verifier.close());
  }
});

function newHome(): string {
  const home = join(folder, `home-${homes++}`);
  mkdirSync(join(home, 'cv_ca'), { recursive: true });
  writeFileSync(join(home, 'cv_ca', 'cacert.crt'), ca.certPem);
  writeFileSync(join(home, 'list'), [0, 1, 2].map(entry).join(''));
  writeFileSync(join(home, 'boot'), 'events');
  return home;
}

function configOf(home: string, options: Readonly<Record<string, string>> = {}): AgentConfig {
  const env: Record<string, string> = {
    KEYLIME_DIR: home,
    KEYLIME_AGENT_MODE: 'push',
    KEYLIME_AGENT_VERIFIER_URL: verifier.url,
    KEYLIME_AGENT_REGISTRAR_PORT: String(registrar.port),
    KEYLIME_AGENT_IMA_ML_PATH: join(home, 'list'),
    KEYLIME_AGENT_MEASUREDBOOT_ML_PATH: join(home, 'boot'),
    KEYLIME_AGENT_EXPONENTIAL_BACKOFF_INITIAL_DELAY: '1',
  };
  for (const [name, value] of Object.entries(options)) env[`KEYLIME_AGENT_${name.toUpperCase()}`] = value;
  const roots = { etc: join(home, 'etc'), usrEtc: join(home, 'usr') };
  return { ...loadAgentConfig({ env, roots, isRoot: false }).config, port: 0 };
}

/** An agent that is enrolled as soon as it has registered. */
async function pushing(config: AgentConfig) {
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  const write = (line: string) => {
    lines.push(line);
    for (const look of waiting) look();
  };
  const log = openLog({ name: 'keylime.agent', level: 'debug', destination: { write } });
  const agent = await startAgent(config, log, { tcti: tpm.tcti });
  /** Resolves when `count` lines of the log match. */
  const said = (pattern: RegExp, count = 1) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (lines.filter((line) => pattern.test(line)).length < count) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { ...agent, lines, said, [Symbol.asyncDispose]: agent.close };
}

const registeredAk = () => {
  const last = registrar.registered.at(-1);
  assert.ok(last?.activated);
  return decodePublic(Buffer.from(last.body.aik_tpm, 'base64'));
};

/** Waits until the agent wants a session and is not known, then enrols it. */
async function enrolled() {
  await verifier.next('PATCH sessions');
  verifier.enrolled = registeredAk();
}

const evidenceOf = ({ body }: Exchange) =>
  body.data.attributes.evidence_collected as readonly {
    readonly evidence_type: string;
    readonly data: Readonly<Record<string, string | number>>;
  }[];

function verifiedQuote(delivered: Exchange) {
  const [quote] = evidenceOf(delivered);
  assert.equal(quote?.evidence_type, 'tpm_quote');
  const part = (name: string) => Buffer.from(String(quote.data[name]), 'base64');
  const text = encodeQuote({ attest: part('message'), signature: part('signature'), pcrBlob: part('subject_data') });
  const result = verifyQuote({ text, ak: registeredAk(), hashAlg: 'sha256', nonce: verifier.challenge() });
  assert.ok(result.ok, result.ok ? '' : JSON.stringify(result.failure));
  return result.quote;
}

test('a push agent registers, proves its AK, and delivers what the verifier chose, without a server of its own', async () => {
  const delivery = verifier.next('PATCH attestations');
  const enrolment = enrolled();
  await using agent = await pushing(configOf(newHome()));
  await enrolment;
  const delivered = await delivery;
  assert.equal(agent.address, undefined);
  assert.deepEqual([registrar.registered[0]?.agentId, registrar.registered[0]?.body.mtls_cert], [AGENT_ID, 'disabled']);

  const offer = verifier.exchanges.find(({ what }) => what === 'POST attestations');
  assert.equal(offer?.path, ATTESTATIONS);
  const supported = offer.body.data.attributes.evidence_supported as unknown as {
    readonly evidence_type: string;
    readonly capabilities: QuoteCapabilities & { readonly entry_count: number };
  }[];
  assert.deepEqual(
    supported.map(({ evidence_type: type, capabilities }) => [type, capabilities.entry_count]),
    [
      ['tpm_quote', undefined],
      ['uefi_log', 0],
      ['ima_log', 3],
    ],
  );
  const [capabilities] = supported.map((one) => one.capabilities);
  assert.deepEqual(capabilities?.hash_algorithms.toSorted(), ['sha1', 'sha256']);
  assert.equal(capabilities.available_subjects.sha256?.length, 24);
  const [key] = capabilities.certification_keys;
  assert.deepEqual(
    [key?.key_class, key?.key_algorithm, key?.key_size, key?.server_identifier, key?.local_identifier],
    ['asymmetric', 'rsa', 2048, 'ak', objectName(registeredAk()).toString('hex')],
  );
  assert.deepEqual([key?.allowable_hash_algorithms, key?.allowable_signature_schemes], [['sha256'], ['rsassa']]);
  const info = offer.body.data.attributes.system_info as { readonly boot_time: string };
  assert.match(info.boot_time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

  assert.equal(delivered.path, `${ATTESTATIONS}/0`);
  assert.equal(verifiedQuote(delivered).mask, (1 << 0) | (1 << 10));
  const [, uefi, ima] = evidenceOf(delivered);
  assert.deepEqual(uefi?.data, { entries: Buffer.from('events').toString('base64') });
  assert.deepEqual(ima?.data, { entries: [0, 1, 2].map(entry).join(''), entry_count: 3 });
  assert.ok(verifier.exchanges.every(({ contentType }) => contentType === 'application/vnd.api+json'));
});

test('[MUST] a push agent shows the verifier no certificate, and its token is in no line of the log', async () => {
  const delivery = verifier.next('PATCH attestations');
  const enrolment = enrolled();
  // What sits between agent and verifier may send back what it was sent.
  const home = newHome();
  await using agent = await pushing(configOf(home, { push_listen: 'true' }));
  await enrolment;
  await delivery;
  assert.ok(agent.address);
  await agent.close();

  const answer = ({ token }: { readonly token: string | undefined }) => ({
    status: 422,
    body: problemDocument({ status: 422, code: 'invalid', detail: `Bearer ${token} is not welcome` }),
  });
  verifier.instead.push({ what: 'POST attestations', answer });
  const second = verifier.next('PATCH attestations');
  await using again = await pushing(configOf(home));
  await again.said(/Bearer \[token\] is not welcome/);
  await second;
  assert.ok(verifier.exchanges.every(({ hasClientCertificate }) => !hasClientCertificate));
  const told = [...agent.lines, ...again.lines].join('\n');
  const tokens = new Set(verifier.exchanges.flatMap(({ token = [] }) => token));
  assert.equal(tokens.size, 2);
  for (const token of tokens) assert.ok(!told.includes(token.slice(token.indexOf('.') + 1)));
});

test('a session that is over is begun anew at once, and the request repeated', async () => {
  const enrolment = enrolled();
  verifier.secondsToNext = 1;
  const first = verifier.next('PATCH attestations', 202);
  await using _agent = await pushing(configOf(newHome()));
  await enrolment;
  const { token } = await first;
  const from = verifier.exchanges.length;
  verifier.endSessions();
  const second = await verifier.next('PATCH attestations', 202);
  assert.notEqual(second.token, token);
  assert.deepEqual(
    verifier.exchanges.slice(from).map(({ what, status }) => `${what} ${status}`),
    [
      'POST attestations 401',
      'POST sessions 200',
      'PATCH sessions 200',
      'POST attestations 201',
      'PATCH attestations 202',
    ],
  );
});

test('evidence goes on where the verifier wants it to, and a list that became shorter is not passed off as its end', async () => {
  const home = newHome();
  verifier.wanted = [quoteOf([10]), imaFrom(2)];
  verifier.secondsToNext = 1;
  const enrolment = enrolled();
  const first = verifier.next('PATCH attestations', 202);
  await using agent = await pushing(configOf(home));
  await enrolment;
  assert.deepEqual(evidenceOf(await first)[1]?.data, { entries: entry(2), entry_count: 1 });

  appendFileSync(join(home, 'list'), `${entry(3)}10 half a line`);
  assert.deepEqual(evidenceOf(await verifier.next('PATCH attestations', 202))[1]?.data, {
    entries: entry(2) + entry(3),
    entry_count: 2,
  });

  writeFileSync(join(home, 'list'), entry(0));
  const report = await verifier.next('PATCH attestations', 400);
  assert.deepEqual([report.body.data.type, evidenceOf(report)], ['error', []]);
  await agent.said(/from entry 2 on, and it is shorter now/);
});

test('a verifier that is away for long is tried again and again, and found when it is back', async () => {
  const { port } = verifier;
  await verifier.close();
  await using agent = await pushing(configOf(newHome()));
  await agent.said(/The verifier cannot be reached/, 3);
  verifier = await newVerifier(port);
  verifier.wanted = [quoteOf([0])];
  const enrolment = enrolled();
  const delivery = verifier.next('PATCH attestations', 202);
  await enrolment;
  assert.equal(verifiedQuote(await delivery).mask, 1);
  await agent.close();
  await verifier.close();
});

test('[MUST] a verifier with a certificate of another CA gets nothing, until its CA is the one that is configured', async () => {
  const other = await testCa('Another CA');
  const home = newHome();
  writeFileSync(join(home, 'cv_ca', 'cacert.crt'), other.certPem);
  await using agent = await pushing(configOf(home));
  await agent.said(/not issued by a CA that is trusted/);
  assert.equal(verifier.exchanges.length, 0);
  const enrolment = enrolled();
  const delivery = verifier.next('PATCH attestations', 202);
  writeFileSync(join(home, 'cv_ca', 'cacert.crt'), ca.certPem);
  await enrolment;
  await delivery;
});

test('an AK on P-256 proves itself and quotes, too', async () => {
  verifier.wanted = [quoteOf([0, 7], 'ecdsa')];
  const delivery = verifier.next('PATCH attestations', 202);
  const enrolment = enrolled();
  await using _agent = await pushing(configOf(newHome(), { tpm_encryption_alg: 'ecc', tpm_signing_alg: 'ecdsa' }));
  await enrolment;
  assert.equal(verifiedQuote(await delivery).mask, (1 << 0) | (1 << 7));
  const offer = verifier.exchanges.find(({ what }) => what === 'POST attestations');
  assert.ok(offer);
  const [first] = offer.body.data.attributes.evidence_supported as unknown as {
    readonly capabilities: QuoteCapabilities;
  }[];
  const [key] = first?.capabilities.certification_keys ?? [];
  assert.deepEqual([key?.key_algorithm, key?.key_size, key?.allowable_signature_schemes], ['ecc', 256, ['ecdsa']]);
});
