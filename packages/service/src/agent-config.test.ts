import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { ConfigError, loadAgentConfig } from './config.ts';

function load(
  t: TestContext,
  files: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>> = {},
  isRoot = false,
) {
  const root = mkdtempSync(path.join(os.tmpdir(), 'keylime-agent-config-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  const named =
    env.KEYLIME_AGENT_CONFIG === undefined
      ? env
      : { ...env, KEYLIME_AGENT_CONFIG: path.join(root, env.KEYLIME_AGENT_CONFIG) };
  const loaded = loadAgentConfig({
    env: named,
    roots: { etc: path.join(root, 'etc'), usrEtc: path.join(root, 'usr') },
    isRoot,
  });
  return {
    ...loaded,
    warnings: loaded.notes.filter(({ level }) => level === 'warning').map(({ text }) => text.replaceAll(root, '')),
  };
}

const refusal = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return assert.fail('the configuration was accepted');
};

test('layers lie on each other: /usr/etc, its snippets, /etc, its snippets, environment', (t) => {
  const layer = (...ports: readonly number[]) =>
    `[agent]\n${['port', 'contact_port', 'registrar_port', 'registrar_tls_port', 'attestation_interval_seconds']
      .slice(0, ports.length)
      .map((name, i) => `${name} = ${ports[i]}`)
      .join('\n')}\n`;
  const { config, notes } = load(
    t,
    {
      'usr/agent.conf': layer(1, 1, 1, 1, 1),
      'usr/agent.conf.d/a': layer(2, 2, 2, 2),
      'etc/agent.conf': layer(3, 3, 3),
      'etc/agent.conf.d/.hidden': layer(4, 4),
    },
    { KEYLIME_AGENT_PORT: '5' },
  );
  assert.deepEqual(
    [
      config.port,
      config.contact_port,
      config.registrar_port,
      config.registrar_tls_port,
      config.attestation_interval_seconds,
    ],
    [5, 4, 3, 2, 1],
  );
  assert.equal(notes.filter(({ text }) => text.startsWith('Reading configuration from')).length, 2);
});

test('a named file stands alone under the environment; a missing one stops the agent', (t) => {
  const files = { 'mine.toml': '[agent]\nport = 7\n', 'etc/agent.conf': '[agent]\ncontact_port = 8\n' };
  const { config } = load(t, files, { KEYLIME_AGENT_CONFIG: 'mine.toml', KEYLIME_AGENT_IP: '::1' });
  assert.deepEqual([config.port, config.contact_port, config.ip], [7, 9002, '::1']);
  assert.match(
    refusal(() => load(t, {}, { KEYLIME_AGENT_CONFIG: 'none' })),
    /KEYLIME_AGENT_CONFIG: there is no file/,
  );
});

test('lists are TOML arrays or texts; quotes inside are stripped', (t) => {
  const paths = ['/a/ca.crt', '/w/b.crt'];
  for (const value of [
    '["/a/ca.crt", "b.crt"]',
    `"['/a/ca.crt', 'b.crt']"`,
    '"[/a/ca.crt, b.crt]"',
    '"/a/ca.crt b.crt"',
  ]) {
    const { config } = load(t, { 'etc/agent.conf': `[agent]\nkeylime_dir = "/w"\ntrusted_client_ca = ${value}\n` });
    assert.deepEqual(config.trusted_client_ca, paths, value);
  }
});

test('KEYLIME_DIR beats KEYLIME_AGENT_KEYLIME_DIR beats the file, and moves the default paths', (t) => {
  const files = { 'etc/agent.conf': '[agent]\nkeylime_dir = "/file"\n' };
  const paths = (env: Readonly<Record<string, string>>) => {
    const { config } = load(t, files, env);
    return [config.keylime_dir, config.workDir, config.agent_data_path];
  };
  assert.deepEqual(paths({}), ['/file', '/file', '/file/agent_data.json']);
  assert.deepEqual(paths({ KEYLIME_AGENT_KEYLIME_DIR: '/env' }), ['/env', '/env', '/env/agent_data.json']);
  assert.deepEqual(paths({ KEYLIME_AGENT_KEYLIME_DIR: '/env', KEYLIME_DIR: '/dir' }), [
    '/dir',
    '/dir',
    '/dir/agent_data.json',
  ]);
});

test('values that the upgrade tool leaves empty count as their defaults', (t) => {
  const text =
    '[agent]\nagent_data_path = ""\nverifier_url = ""\ncertification_keys_server_identifier = ""\nuefi_logs_evidence_version = ""\nserver_key = ""\niak_cert = ""\n';
  const { config, warnings } = load(t, { 'etc/agent.conf': text });
  assert.deepEqual(
    [
      config.agent_data_path,
      config.verifier_url,
      config.certification_keys_server_identifier,
      config.uefi_logs_evidence_version,
      config.server_key,
      config.iak_cert,
    ],
    [
      '/var/lib/keylime/agent_data.json',
      'https://localhost:8881',
      'ak',
      '2.1',
      '/var/lib/keylime/server-private.pem',
      undefined,
    ],
  );
  assert.equal(warnings.filter((warning) => warning.includes('is empty')).length, 5);
});

test('unknown, gone and misplaced options are reported with file, line and the near name', (t) => {
  const text = 'uuid = "x"\n[agent]\nregistar_ip = "1.2.3.4"\ntls_dir = "x"\n[other]\na = 1\n';
  const { warnings } = load(t, { 'etc/agent.conf': text }, { KEYLIME_AGENT_PROT: '1', KEYLIME_AGENT_MAX_RETRIES: '1' });
  assert.deepEqual(warnings, [
    '/etc/agent.conf:1: "uuid" stands outside of the table [agent] and is ignored',
    '/etc/agent.conf:5: "other" stands outside of the table [agent] and is ignored',
    '/etc/agent.conf:3: the option registar_ip is unknown (did you mean "registrar_ip"?) and ignored',
    '/etc/agent.conf:4: the option tls_dir has no effect: use server_key, server_cert and trusted_client_ca',
    'The environment variable KEYLIME_AGENT_PROT is unknown (did you mean "KEYLIME_AGENT_PORT"?)',
    'The environment variable KEYLIME_AGENT_MAX_RETRIES has no effect: use exponential_backoff_max_retries',
  ]);
});

test('all bad values are reported together', (t) => {
  const text =
    '[agent]\nport = "x"\nip = ""\nuuid = "hostname"\ntpm_hash_alg = "sha265"\nenable_agent_mtls = "perhaps"\nserver_cert = ["a"]\n[agent.run_as]\na = 1\n';
  const message = refusal(() =>
    load(t, { 'etc/agent.conf': text, 'etc/agent.conf.d/z': '[agent\n' }, { KEYLIME_AGENT_CONTACT_IP: 'a b' }),
  );
  for (const expected of [
    /agent\.conf:2: port = "x": expected an integer/,
    /agent\.conf:3: ip = "": expected an IP address or a host name/,
    /agent\.conf:4: uuid = "hostname": expected a UUID, hash_ek or generate/,
    /agent\.conf:5: tpm_hash_alg = "sha265": expected one of .* \(did you mean "sha256"\?\)/,
    /agent\.conf:6: enable_agent_mtls = "perhaps"/,
    /agent\.conf:7: server_cert = .*: expected a single value, not a list/,
    /run_as: a table or a date does not belong here/,
    /agent\.conf\.d\/z:1: not a TOML file/,
    /KEYLIME_AGENT_CONTACT_IP: contact_ip = "a b"/,
  ]) {
    assert.match(message, expected);
  }
});

test('without mutual TLS a payload script needs a second consent', (t) => {
  const off = '[agent]\nenable_agent_mtls = false\n';
  assert.match(
    refusal(() => load(t, { 'etc/agent.conf': off })),
    /'enable_insecure_payload' has to be set to 'True'/,
  );
  assert.equal(load(t, { 'etc/agent.conf': `${off}payload_script = ""\n` }).config.enable_agent_mtls, false);
  assert.equal(load(t, { 'etc/agent.conf': `${off}enable_insecure_payload = true\n` }).config.enable_agent_mtls, false);
});

test('NATS servers are URLs, and lists of files are below keylime_dir', (t) => {
  const odd = '[agent]\nrevocation_nats_url = ["host:4222"]\n';
  assert.match(
    refusal(() => load(t, { 'etc/agent.conf': odd })),
    /revocation_nats_url: host:4222 is no nats:\/\/ or tls/,
  );
  const text =
    '[agent]\nkeylime_dir = "/k"\nrevocation_nats_url = ["tls://host"]\nrevocation_verifier_certs = ["a.pem", "/b.pem"]\n';
  const { config } = load(t, { 'etc/agent.conf': text });
  assert.deepEqual(config.revocation_verifier_certs, ['/k/a.pem', '/b.pem']);
  assert.deepEqual(config.revocation_nats_ca, ['/k/cv_ca/cacert.crt']);
  assert.equal(config.revocation_nats_credentials, undefined);
});

test('[MUST] NATS gets one login that is whole, and none that is secret itself in the clear', (t) => {
  const refused = (server: string, text: string) =>
    refusal(() => load(t, { 'etc/agent.conf': `[agent]\nrevocation_nats_url = ["${server}"]\n${text}\n` }));
  const user = 'revocation_nats_user = "u"\nrevocation_nats_password = "hush"';
  const token = 'revocation_nats_token = "hush"';
  for (const [server, text, problem] of [
    ['nats://10.0.0.1', user, /nats:\/\/10\.0\.0\.1 would get a password or token in the clear/],
    ['nats://localhost.example', token, /in the clear/],
    ['tls://host', `${user}\n${token}`, /only one of revocation_nats_user, revocation_nats_token/],
    ['tls://host', `revocation_nats_credentials = "c"\n${token}`, /only one of/],
    ['tls://host', 'revocation_nats_user = "u"', /go together/],
    ['tls://host', 'revocation_nats_password = "hush"', /go together/],
    ['tls://host', 'revocation_nats_client_cert = "c"', /revocation_nats_client_key go together/],
  ] as const) {
    const said = refused(server, text);
    assert.match(said, problem);
    assert.doesNotMatch(said, /hush/);
  }
  for (const server of ['tls://host', 'nats://127.0.0.1:4222', 'nats://[::1]', 'nats://localhost']) {
    const text = `[agent]\nrevocation_nats_url = ["${server}"]\n${user}\n`;
    assert.equal(load(t, { 'etc/agent.conf': text }).config.revocation_nats_password, 'hush');
  }
});

test('run_as has a default for root only', (t) => {
  assert.equal(load(t, {}, {}, true).config.run_as, 'keylime:tss');
  assert.equal(load(t, {}, {}, false).config.run_as, '');
  assert.equal(load(t, {}, { KEYLIME_AGENT_RUN_AS: 'a:b' }, false).config.run_as, 'a:b');
});

test('a push agent needs a bare https URL and a CA, and no mutual TLS of a server that it has not got', (t) => {
  const push = (text: string) => load(t, { 'etc/agent.conf': `[agent]\nmode = "push"\n${text}` });
  const { config } = push('enable_agent_mtls = false\nverifier_url = "https://verifier:8881/"\n');
  assert.deepEqual([config.mode, config.push_listen, config.attestation_interval_seconds], ['push', false, 60]);
  assert.equal(push('verifier_url = ""\n').config.verifier_url, 'https://localhost:8881');
  for (const url of ['http://verifier:8881', 'https://verifier/keylime', 'https://a@verifier', 'https://verifier/?x']) {
    assert.match(
      refusal(() => push(`verifier_url = "${url}"\n`)),
      /verifier_url must be https:\/\/HOST:PORT/,
    );
  }
  assert.match(
    refusal(() => push('tls_accept_invalid_certs = true\n')),
    /name the CA of the verifier in verifier_tls_ca_cert/,
  );
  assert.match(
    refusal(() => push('push_listen = true\nenable_agent_mtls = false\n')),
    /'payload_script' must be empty/,
  );
  const pull = load(t, {
    'etc/agent.conf': '[agent]\nverifier_url = "http://verifier"\ntls_accept_invalid_certs = true\n',
  });
  assert.equal(pull.config.mode, 'pull');
});
