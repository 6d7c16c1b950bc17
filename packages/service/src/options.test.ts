import assert from 'node:assert/strict';
import test from 'node:test';
import { nearest } from './nearest.ts';
import { agentOptions } from './options/agent.ts';
import { caOptions } from './options/ca.ts';
import { registrarOptions } from './options/registrar.ts';
import { fullMatch, severityLabels, severityPolicy } from './options/severity.ts';
import { tenantOptions } from './options/tenant.ts';
import { revocationOptions, verifierOptions } from './options/verifier.ts';
import { boolean, decimal, integer, list, type Option, readItems } from './options.ts';

const read = <T>(option: Option<T>, text: string): T | undefined => {
  const reading = option.read(text, { workDir: '/work' });
  return reading.ok ? reading.value : undefined;
};

test('every default is a value that its own option accepts', () => {
  const tables = { verifierOptions, revocationOptions, registrarOptions, tenantOptions, caOptions, agentOptions };
  for (const [table, options] of Object.entries(tables)) {
    for (const [name, option] of Object.entries(options)) {
      assert.ok(option.read(option.fallback, { workDir: '/w' }).ok, `${table} ${name}`);
    }
  }
});

test('numbers are read within their range, with or without quotes', () => {
  const port = integer(1, 1, 65_535, '');
  assert.deepEqual(
    ['8881', '"8881"', ' 1 '].map((text) => read(port, text)),
    [8881, 8881, 1],
  );
  assert.deepEqual(
    ['0', '65536', '1.5', '', 'x', '1 # one', '1e3'].map((text) => read(port, text)),
    Array(7).fill(undefined),
  );
  assert.deepEqual(
    ['2', '.25', '1e1', '-1', 'nan', 'inf'].map((text) => read(decimal(1, 0, 10, ''), text)),
    [2, 0.25, 10, undefined, undefined, undefined],
  );
});

test('booleans are words in any case; other text is refused, not taken for no', () => {
  const flag = boolean(false, '');
  assert.deepEqual(
    ['1', 'Yes', 'TRUE', 'on', '"true"'].map((text) => read(flag, text)),
    Array(5).fill(true),
  );
  assert.deepEqual(
    ['0', 'no', 'False', 'OFF'].map((text) => read(flag, text)),
    Array(4).fill(false),
  );
  assert.deepEqual(
    ['', 'ja', 'True # yes', '2'].map((text) => read(flag, text)),
    Array(4).fill(undefined),
  );
});

test('lists are read in all the forms of existing files', () => {
  const forms = [
    `['a', "b"]`,
    `"['a', 'b']"`,
    '[a, b]',
    'a, b',
    'a b',
    `"a", 'b'`,
    '("a", "b")',
    '["a","b"]',
    '\na\nb\n',
  ];
  for (const form of forms) assert.deepEqual(readItems(form), { ok: true, value: ['a', 'b'] }, form);
  assert.deepEqual(readItems(''), { ok: true, value: [] });
  for (const form of ["['a', 'b'", "['a' 1]", "['a', 1]", '"a', "['a'] x"])
    assert.equal(readItems(form).ok, false, form);
});

test('a list of known words refuses another word and names the near one', () => {
  const channels = list('[]', '', ['agent', 'webhook', 'zeromq']);
  assert.deepEqual(read(channels, '["webhook"]'), ['webhook']);
  const reading = channels.read("['webhok']", { workDir: '/' });
  assert.ok(!reading.ok);
  assert.match(reading.problem, /did you mean "webhook"/);
});

test('severity rules are anchored regular expressions in the dialect of Python', () => {
  const [rule] = read(severityPolicy, String.raw`[{'event_id': 'ima\\..*|tpm', 'severity_label': 'high'}]`) ?? [];
  assert.ok(rule);
  assert.deepEqual(
    ['ima.x', 'tpm', 'xtpm', 'ima.x\n', 'tpmx'].map((id) => rule.event_id.test(id)),
    [true, true, false, false, false],
  );
  const named = fullMatch(String.raw`(?P<part>ima)\Z`);
  assert.ok(named.ok && named.value.test('ima'));
});

test('severity settings that would judge nothing are refused', () => {
  for (const text of [
    '[]',
    '{}',
    '[1]',
    "[{'event_id': '('}]",
    "[{'event_id': '(', 'severity_label': 'x'}]",
    "[{'event_id': '(?i)a', 'severity_label': 'x'}]",
    "[{'event_id': 'a', 'severity_label': 'x', 'y': 1}]",
  ]) {
    assert.equal(read(severityPolicy, text), undefined, text);
  }
  for (const text of ['[]', "['a', 'a']", "['']", '[1]', 'info'])
    assert.equal(read(severityLabels, text), undefined, text);
});

test('paths of the agent are absolute below its work directory', () => {
  assert.equal(read(agentOptions.server_key, 'default'), '/work/server-private.pem');
  assert.equal(read(agentOptions.server_key, 'keys/a.pem'), '/work/keys/a.pem');
  assert.equal(read(agentOptions.server_key, '/a.pem'), '/a.pem');
  assert.equal(read(agentOptions.iak_cert, ''), undefined);
  assert.deepEqual(read(agentOptions.trusted_client_ca, `["default", "b.crt"]`), [
    '/work/cv_ca/cacert.crt',
    '/work/b.crt',
  ]);
  assert.equal(agentOptions.trusted_client_ca.read('[]', { workDir: '/' }).ok, false);
});

test('the agent takes only names, hosts and handles that can be meant', () => {
  const { uuid, ip, ek_handle, secure_size, run_as, revocation_block_never } = agentOptions;
  assert.equal(read(uuid, 'D432FBB3-D2F1-4A97-9EF7-75BD81C00000'), 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000');
  assert.deepEqual(
    ['hash_ek', 'generate', 'hostname', 'dmidecode', ''].map((text) => read(uuid, text)),
    ['hash_ek', 'generate', undefined, undefined, undefined],
  );
  assert.deepEqual(
    ['[::1]', '10.0.0.1', 'a-b.example', 'a_b', '', '300.1.1.1', '-a'].map((text) => read(ip, text)),
    ['::1', '10.0.0.1', 'a-b.example', undefined, undefined, undefined, undefined],
  );
  assert.equal(read(ek_handle, '0x81010001'), 0x81010001);
  assert.equal(ek_handle.read('0x40000001', { workDir: '/' }).ok, false);
  assert.equal(read(secure_size, '1m,exec'), undefined);
  assert.equal(read(run_as, 'keylime'), undefined);
  assert.deepEqual(read(revocation_block_never, "['10.0.0.1', 'fd00::/8']"), ['10.0.0.1', 'fd00::/8']);
  for (const text of ["['gateway']", "['10.0.0.0/33']", "['fe80::1%eth0']", "['10.0.0.1/']", "['10.0.0.1/8/8']"]) {
    assert.equal(read(revocation_block_never, text), undefined, text);
  }
});

test('the nearest name is found by its slip, and nothing for a stranger', () => {
  const names = ['quote_interval', 'retry_interval', 'max_retries'];
  assert.equal(nearest('quote_intervall', names), 'quote_interval');
  assert.equal(nearest('qoute_interval', names), 'quote_interval');
  assert.equal(nearest('Max_Retry', names), 'max_retries');
  assert.equal(nearest('zzz', names), undefined);
});
