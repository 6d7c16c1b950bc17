import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseArguments, UsageError } from './argv.ts';
import { OPTIONS, type Option } from './options.ts';

const usage = (argv: readonly string[], message: string | RegExp) =>
  assert.throws(
    () => parseArguments(argv),
    (error) => {
      assert.ok(error instanceof UsageError);
      if (typeof message === 'string') assert.equal(error.message, message);
      else assert.match(error.message, message);
      return true;
    },
  );

test('two-letter options with one dash are options of their own', () => {
  const given = parseArguments([
    '-t',
    'a',
    '-tp',
    '1',
    '-r',
    'b',
    '-rp',
    '2',
    '-v',
    'c',
    '-vp',
    '3',
    '-vi',
    'd',
    '-nvc',
  ]);
  const { agentHost, agentPort, registrarHost, registrarPort, verifierHost, verifierPort, verifierId } = given;
  assert.deepEqual([agentHost, agentPort, registrarHost, registrarPort], ['a', '1', 'b', '2']);
  assert.deepEqual([verifierHost, verifierPort, verifierId, given.noVerifierCheck], ['c', '3', 'd', true]);
});

test('a text may follow an option after =, or right behind a one-letter option', () => {
  const given = parseArguments(['-u=abc', '--command=cvlist', '-t10.0.0.1', '-tp=9002', '--tpm_policy={"22": "="}']);
  assert.deepEqual([given.uuid, given.command, given.agentHost], ['abc', 'cvlist', '10.0.0.1']);
  assert.deepEqual([given.agentPort, given.tpmPolicy], ['9002', '{"22": "="}']);
});

test('an unambiguous beginning of a long option stands for it, and a whole one is never ambiguous', () => {
  assert.equal(parseArguments(['--uu', 'x']).uuid, 'x');
  assert.equal(parseArguments(['--target', 'x', '--targetp', '1'].slice(2)).agentPort, '1');
  assert.equal(parseArguments(['--allowlist', 'f']).allowlist, 'f');
  assert.equal(parseArguments(['--runtime-policy', 'f']).runtimePolicy, 'f');
  usage(['--target', 'x'], 'ambiguous option: --target could match --targethost, --targetport');
});

test('options that the existing tenant does not have do not make its beginnings ambiguous', () => {
  assert.equal(parseArguments(['--ver']).verify, true);
  assert.equal(parseArguments(['--no']).noVerifierCheck, true);
  assert.equal(parseArguments(['--version']).version, true);
  assert.equal(parseArguments(['--no-hostname-check']).noHostnameCheck, true);
});

test('the last text counts, and repeatable options keep all', () => {
  const given = parseArguments([
    '-u',
    'a',
    '-u',
    'b',
    '--signature-verification-key',
    'k',
    '--sign_verification_key',
    'l',
  ]);
  assert.equal(given.uuid, 'b');
  assert.deepEqual(given.signatureKeys, ['k', 'l']);
});

test('--mb_refstate and --mb-policy are one option', () => {
  assert.equal(parseArguments(['--mb_refstate', 'f']).mbPolicy, 'f');
  assert.equal(parseArguments(['--mb-policy', 'f']).mbPolicy, 'f');
});

test('texts that look like options are none: negative numbers, a dash, the empty text', () => {
  assert.equal(parseArguments(['-u', '-1']).uuid, '-1');
  assert.equal(parseArguments(['-f', '-']).file, '-');
  assert.equal(parseArguments(['-u', '']).uuid, '');
});

test('mistakes are told in the words of argparse', () => {
  usage(['-u'], 'argument -u/--uuid: expected one argument');
  usage(['-u', '-c'], 'argument -u/--uuid: expected one argument');
  usage(['--push-model=1'], "argument --push-model: ignored explicit argument '1'");
  usage(['--frobnicate', 'x'], 'unrecognized arguments: --frobnicate x');
  usage(['cvlist'], 'unrecognized arguments: cvlist');
  usage(['-c', 'cvlist', '--', 'x'], 'unrecognized arguments: x');
});

test('--help wins over what follows and over what is unknown', () => {
  assert.equal(parseArguments(['-h', '-u']).help, true);
  assert.equal(parseArguments(['--frobnicate', '--help']).help, true);
});

test('nothing given means nothing', () => {
  const given = parseArguments([]);
  for (const [name, option] of Object.entries(OPTIONS as { readonly [name: string]: Option })) {
    const expected = option.kind === 'flag' ? false : option.kind === 'list' ? [] : undefined;
    assert.deepEqual(given[name as keyof typeof given], expected);
  }
});

test('every option is found by each of its spellings, and no spelling belongs to two', () => {
  const seen = new Set<string>();
  for (const [name, option] of Object.entries(OPTIONS as { readonly [name: string]: Option })) {
    for (const flag of option.flags) {
      assert.ok(!seen.has(flag), flag);
      seen.add(flag);
      const given = parseArguments(option.kind === 'flag' ? [flag] : [flag, 'text']);
      const expected = option.kind === 'flag' ? true : option.kind === 'list' ? ['text'] : 'text';
      assert.deepEqual(given[name as keyof typeof given], expected, flag);
    }
  }
});

test('no command line fails in another way than by a usage error', () => {
  const word = fc.oneof(
    fc.string(),
    fc.constantFrom(...Object.values(OPTIONS as { readonly [name: string]: Option }).flatMap(({ flags }) => flags)),
    fc.constantFrom('--', '-', '-t', '--r', '--m', '-x=y', '--=', '='),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (argv) => {
      try {
        parseArguments(argv);
      } catch (error) {
        assert.ok(error instanceof UsageError);
      }
    }),
  );
});
