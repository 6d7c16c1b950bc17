import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import {
  ConfigError,
  type Loaded,
  loadCaConfig,
  loadRegistrarConfig,
  loadTenantConfig,
  loadVerifierConfig,
} from './config.ts';
import type { ConfigSource } from './config-files.ts';

/** A root of its own with the given files, and a configuration source over it. */
function sourceWith(t: TestContext, files: Readonly<Record<string, string>>, env: ConfigSource['env'] = {}) {
  const root = mkdtempSync(path.join(os.tmpdir(), 'keylime-config-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  const roots = { etc: path.join(root, 'etc'), usrEtc: path.join(root, 'usr') };
  return { root, source: { env, roots, isRoot: false } satisfies ConfigSource };
}

function refusal(load: () => unknown): ConfigError {
  try {
    load();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  return assert.fail('the configuration was accepted');
}

const notesOf = ({ notes }: Loaded<unknown>, level: 'info' | 'warning') =>
  notes.filter((note) => note.level === level).map(({ text }) => text);

test('without files the defaults hold, and they are closed', (t) => {
  const { root, source } = sourceWith(t, {});
  const { config, notes } = loadVerifierConfig(source);
  assert.equal(config.enable_agent_mtls, true);
  assert.equal(config.tls_dir, 'generate');
  assert.deepEqual(config.trusted_client_ca, ['default']);
  assert.deepEqual(config.database_pool_sz_ovfl, { size: 5, overflow: 10 });
  assert.deepEqual(config.revocations.enabled_revocation_notifications, ['agent']);
  assert.equal(config.workDir, '/var/lib/keylime');
  assert.equal(config.testMode, false);
  assert.equal(loadTenantConfig(source).config.require_ek_cert, true);
  assert.equal(loadTenantConfig(source).config.enable_agent_mtls, true);
  assert.equal(loadCaConfig(source).config.cert_ca_lifetime, 3650);
  assert.ok(notes.some(({ text }) => text.includes(`${root}/etc/verifier.conf or ${root}/usr/verifier.conf`)));
});

test('the base of /etc hides that of /usr/etc; snippets of /usr/etc, then of /etc, then the environment win', (t) => {
  const files = {
    'usr/verifier.conf': '[verifier]\nport = 1\nquote_interval = 99\n',
    'etc/verifier.conf':
      '[verifier]\nport = 2\nip = 10.0.0.1\nmax_retries = 1\nretry_interval = 1\nrequest_timeout = 1\n',
    'usr/verifier.conf.d/10-a': '[verifier]\nmax_retries = 2\nretry_interval = 2\nrequest_timeout = 2\n',
    'etc/verifier.conf.d/20-b.conf': '[verifier]\nretry_interval = 4\nrequest_timeout = 4\n',
    'etc/verifier.conf.d/10-a.conf': '[verifier]\nretry_interval = 3\nrequest_timeout = 3\n',
  };
  const env = { KEYLIME_VERIFIER_REQUEST_TIMEOUT: '5', KEYLIME_VERIFIER_REVOCATIONS_ZMQ_PORT: '99' };
  const { root, source } = sourceWith(t, files, env);
  const loaded = loadVerifierConfig(source);
  const { port, ip, quote_interval, max_retries, retry_interval, request_timeout, revocations } = loaded.config;
  assert.deepEqual(
    [port, ip, quote_interval, max_retries, retry_interval, request_timeout],
    [2, '10.0.0.1', 2, 2, 4, 5],
  );
  assert.equal(revocations.zmq_port, 99);
  const info = notesOf(loaded, 'info');
  assert.ok(info.includes(`Reading configuration from ['${root}/etc/verifier.conf']`));
  assert.ok(info.includes(`Applied configuration snippets from ${root}/etc/verifier.conf.d`));
  assert.ok(info.some((text) => text.includes('KEYLIME_VERIFIER_REQUEST_TIMEOUT') && !text.includes('5')));
});

test('snippets without a base file are not read', (t) => {
  const { source } = sourceWith(t, { 'etc/verifier.conf.d/a.conf': '[verifier]\nport = 1\n' });
  assert.equal(loadVerifierConfig(source).config.port, 8881);
});

test('a file named by the environment stands alone', (t) => {
  const { root, source } = sourceWith(t, {
    'mine.conf': '[DEFAULT]\nip = 10.9.9.9\n[verifier]\nport = 7\n',
    'etc/verifier.conf': '[verifier]\nquote_interval = 9\n',
    'etc/verifier.conf.d/a': '[verifier]\nport = 8\n',
  });
  const { config } = loadVerifierConfig({ ...source, env: { KEYLIME_VERIFIER_CONFIG: `${root}/mine.conf` } });
  assert.deepEqual([config.port, config.quote_interval, config.ip], [7, 2, '10.9.9.9']);
});

test('a file that is named but missing stops the program', (t) => {
  const { source } = sourceWith(t, {}, { KEYLIME_VERIFIER_CONFIG: '/nowhere/v.conf' });
  const error = refusal(() => loadVerifierConfig(source));
  assert.equal(error.code, 'config_invalid');
  assert.deepEqual(
    error.problems.map(({ origin }) => origin),
    [{ variable: 'KEYLIME_VERIFIER_CONFIG' }],
  );
});

test('a file that cannot be read stops the program', (t) => {
  const { root, source } = sourceWith(t, { 'etc/verifier.conf': '[verifier]\n', 'etc/ca.conf/x': '' });
  // A folder in place of a file fails for root as well, whom permissions do not stop.
  assert.deepEqual(
    refusal(() => loadCaConfig(source)).problems.map(({ origin }) => origin),
    [{ file: `${root}/etc/ca.conf` }],
  );
  writeFileSync(`${root}/etc/verifier.conf`, Buffer.from([0x5b, 0xff, 0x5d]));
  assert.match(
    refusal(() => loadVerifierConfig(source)).message,
    /verifier\.conf: cannot be read: it is not UTF-8 text/,
  );
});

test('a file without permission stops the program', {
  skip: process.getuid?.() === 0 && 'root reads everything',
}, (t) => {
  const { root, source } = sourceWith(t, { 'etc/verifier.conf': '[verifier]\n' });
  chmodSync(`${root}/etc/verifier.conf`, 0o000);
  assert.match(refusal(() => loadVerifierConfig(source)).message, /EACCES/);
});

test('all bad values are reported together, each with its file and line or its variable', (t) => {
  const text =
    '[verifier]\nport = abc\nport2 = 1\nenable_agent_mtls = maybe\nquote_interval = 2 # seconds\nip = 1\nip = 2\n';
  const env = {
    KEYLIME_VERIFIER_MAX_RETRIES: '-1',
    KEYLIME_TEST: 'maybe',
    KEYLIME_LOG_LEVEL: 'loud',
    KEYLIME_LOG_FORMAT: 'xml',
  };
  const { root, source } = sourceWith(
    t,
    { 'etc/verifier.conf': text, 'etc/logging.conf': '[logger_keylime]\nlevel = loud\n' },
    env,
  );
  const { message, problems } = refusal(() => loadVerifierConfig(source));
  const file = `${root}/etc/verifier.conf`;
  for (const line of [
    `${file}:2: port = "abc": expected an integer`,
    `${file}:4: enable_agent_mtls = "maybe": expected True or False`,
    `${file}:5: quote_interval = "2 # seconds": expected a number (a comment must stand on a line of its own)`,
    `${file}:7: the option "ip" is there twice`,
    `${root}/etc/logging.conf:2: level = "loud"`,
    'KEYLIME_VERIFIER_MAX_RETRIES: max_retries = "-1"',
    'KEYLIME_TEST: expected True or False',
    'KEYLIME_LOG_LEVEL: expected DEBUG',
    'KEYLIME_LOG_FORMAT: expected text or json',
    `warning: ${file}:3: the option port2 is unknown (did you mean "port"?)`,
  ]) {
    assert.ok(message.includes(line), `${line}\nis not in\n${message}`);
  }
  assert.equal(problems.length, 9);
});

test('unknown and gone options of files and variables are warnings, with the near name', (t) => {
  const text = '[verifier]\nqoute_interval = 1\nnum_workers = 4\n[revocation]\nwebhook_url = x\n';
  const env = { KEYLIME_VERIFIER_WEBHOOK_URL: 'x', KEYLIME_VERIFIER_NUM_WORKERS: '2', KEYLIME_VERIFIER_PROT: '1' };
  const { source } = sourceWith(t, { 'etc/verifier.conf': text }, env);
  const warnings = notesOf(loadVerifierConfig(source), 'warning').join('\n');
  for (const expected of [
    /verifier\.conf:2: the option qoute_interval is unknown \(did you mean "quote_interval"\?\)/,
    /verifier\.conf:3: the option num_workers has no effect: use max_workers/,
    /verifier\.conf:5: the section \[revocation\] is unknown \(did you mean "revocations"\?\)/,
    /KEYLIME_VERIFIER_WEBHOOK_URL is unknown/,
    /KEYLIME_VERIFIER_NUM_WORKERS has no effect/,
    /KEYLIME_VERIFIER_PROT is unknown \(did you mean "KEYLIME_VERIFIER_PORT"\?\)/,
  ]) {
    assert.match(warnings, expected);
  }
});

test('secrets are in no message', (t) => {
  const text = '[verifier]\nserver_key_password = hunter2\n[revocations]\nwebhook_url = hunter2://x\n';
  const { source } = sourceWith(t, { 'etc/verifier.conf': text }, { KEYLIME_VERIFIER_CLIENT_KEY_PASSWORD: 'hunter2' });
  const { message, notes } = refusal(() => loadVerifierConfig(source));
  assert.match(message, /webhook_url is not a URL/);
  assert.ok(!`${message}${JSON.stringify(notes)}`.includes('hunter2'));
});

test('a database that cannot be is found with everything else, and its password is in no message', (t) => {
  for (const [url, expected] of [
    ['mysql://user:hunter2@host/name', /verifier\.conf:2: database_url: mysql is not supported/],
    ['hunter2', /verifier\.conf:2: database_url: expected sqlite, sqlite:\/\/\/FILE or postgresql:/],
  ] as const) {
    const { source } = sourceWith(t, { 'etc/verifier.conf': `[verifier]\ndatabase_url = ${url}\nport = x\n` });
    const { message, problems } = refusal(() => loadVerifierConfig(source));
    assert.equal(problems.length, 2);
    assert.match(message, expected);
    assert.ok(!message.includes('hunter2'));
  }
});

test('a verifier that agents push to wants evidence each minute, unless something else is set', (t) => {
  const interval = (text: string) => {
    const { source } = sourceWith(t, { 'etc/verifier.conf': `[verifier]\n${text}\n` });
    return loadVerifierConfig(source).config.quote_interval;
  };
  assert.equal(interval('mode = push'), 60);
  assert.equal(interval('mode = push\nquote_interval = 2'), 2);
  assert.equal(interval('mode = pull'), 2);
});

test('settings that would silently switch a check off are refused', (t) => {
  const refused: readonly (readonly [setting: string, expected: RegExp])[] = [
    ['trusted_client_ca = all\ntls_dir = default', /trusted_client_ca = all would trust anybody/],
    ['trusted_server_ca = all\ntls_dir = default', /trusted_server_ca = all would trust anybody/],
    ['trusted_client_ca = []\ntls_dir = default', /trusted_client_ca must not be empty/],
    ['mode =', /mode = "": expected one of pull, push/],
    ['severity_labels = []', /severity_labels/],
    ['severity_policy = []', /severity_policy/],
    ['durable_attestation_import = keylime.da', /durable_attestation_import is not supported/],
    ['tls_dir =', /tls_dir must not be empty/],
    ['authorization_provider = other', /authorization_provider/],
    ['[revocations]\nenabled_revocation_notifications = ["webhook"]', /webhook_url is empty/],
    ['[revocations]\nenabled_revocation_notifications = ["agents"]', /"agents" is not one of .*did you mean "agent"/],
    ['[revocations]\nenabled_revocation_notifications = ["nats"]', /nats_url is empty/],
    ['[revocations]\nnats_url = ["nats://host"]\nnats_token = hush', /nats:\/\/host would get a .* in the clear/],
    ['[revocations]\nnats_url = ["tls://host"]\nnats_user = u', /nats_user and nats_password go together/],
    ['[revocations]\nnats_url = ["http://host"]', /http:\/\/host is no nats:\/\/ or tls:\/\/ URL/],
    [
      '[revocations]\nnats_url = ["tls://me:secret@host"]',
      /tls:\/\/\*\*\*@host is no nats:\/\/ or tls:\/\/ URL without a password/,
    ],
  ];
  for (const [setting, expected] of refused) {
    const { source } = sourceWith(t, { 'etc/verifier.conf': `[verifier]\n${setting}\n` });
    assert.match(refusal(() => loadVerifierConfig(source)).message, expected, setting);
  }
});

test('tls_dir = generate needs the default names, and says which are not', (t) => {
  const { source } = sourceWith(t, {
    'etc/verifier.conf': "[verifier]\nserver_key = a.pem\ntrusted_client_ca = ['a.crt']\n",
  });
  assert.match(
    refusal(() => loadVerifierConfig(source)).message,
    /verifier\.conf:2: To use tls_dir=generate, the following options must be set to 'default': \['server_key', 'trusted_client_ca'\]/,
  );
  const tenant = sourceWith(t, { 'etc/tenant.conf': '[tenant]\ntls_dir = generate\n' });
  assert.match(refusal(() => loadTenantConfig(tenant.source)).message, /tls_dir = generate is for the services/);
});

test('the registrar takes the store of EK certificates from tenant.conf, and nothing else', (t) => {
  const { source } = sourceWith(t, { 'etc/tenant.conf': '[tenant]\ntpm_cert_store = /store\nverifier_port = abc\n' });
  assert.equal(loadRegistrarConfig(source).config.tpm_cert_store, '/store');
  const warnings = notesOf(loadRegistrarConfig(sourceWith(t, {}).source), 'warning');
  assert.deepEqual(
    warnings.map((text) => /registrar|tenant|logging/.exec(text)?.[0]),
    ['registrar'],
  );
});

test('the work directory comes from KEYLIME_DIR, or is the current one in test mode', (t) => {
  const { source } = sourceWith(t, {});
  assert.equal(loadVerifierConfig({ ...source, env: { KEYLIME_DIR: '/w/' } }).config.workDir, '/w');
  const { config, notes } = loadVerifierConfig({ ...source, env: { KEYLIME_TEST: 'on' } });
  assert.deepEqual([config.workDir, config.testMode], [process.cwd(), true]);
  assert.ok(notes.some(({ level, text }) => level === 'warning' && text.startsWith('KEYLIME_TEST is on')));
});

test('the log level is the higher one of logger and handler, and the environment beats both', (t) => {
  const logging =
    '[logger_root]\nlevel = WARNING\n[logger_keylime]\nlevel = DEBUG\nqualname = keylime\n[handler_consoleHandler]\nlevel = ERROR\nargs = (sys.stdout,)\n';
  const { source } = sourceWith(t, { 'etc/logging.conf': logging });
  assert.deepEqual(loadVerifierConfig(source).config.log, { level: 'error', format: 'text' });
  const env = { KEYLIME_LOG_LEVEL: 'debug', KEYLIME_LOG_FORMAT: 'json' };
  assert.deepEqual(loadVerifierConfig({ ...source, env }).config.log, { level: 'debug', format: 'json' });
});
