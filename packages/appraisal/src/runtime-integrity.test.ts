import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digest, digestSize, extend } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { nonBlankLines } from '@keylime/ima/replay';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import { appraiseRuntimeIntegrity, type RuntimeIntegrity, type RuntimeIntegrityEvidence } from './runtime-integrity.ts';

const D = digest('sha256', Buffer.from('hello\n')).toString('hex');
const OTHER = digest('sha256', Buffer.from('other\n')).toString('hex');
const BOOT = digest('sha256', Buffer.from('boot')).toString('hex');

function policy(changes: Record<string, unknown> = {}): RuntimePolicy {
  const digests = { boot_aggregate: [BOOT], '/opt/demo/hello': [D] };
  const text = JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests, ...changes });
  const decoded = decodeRuntimePolicy(text);
  assert.ok(decoded.ok, JSON.stringify(decoded));
  return decoded.value;
}

/** A line with the right template hash for its fields, or the column given. */
function line(fields: string, column?: string, pcr = '10'): string {
  const parsed = parseImaLine(`${pcr} ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok, fields);
  return `${pcr} ${column ?? digest('sha1', parsed.value.templateInput).toString('hex')} ${fields}`;
}

const boot = line(`ima-ng sha256:${BOOT} boot_aggregate`);
const hello = line(`ima-ng sha256:${D} /opt/demo/hello`);

/** PCR 10 after what a kernel would have extended for the lines. */
function pcrAfter(lines: readonly string[], start: Uint8Array = new Uint8Array(32)): Buffer {
  return lines.reduce<Buffer>((value, text) => {
    const parsed = parseImaLine(text);
    if (!parsed.ok) return value;
    const { violation, templateInput } = parsed.value;
    return extend('sha256', value, violation ? Buffer.alloc(32, 0xff) : digest('sha256', templateInput));
  }, Buffer.from(start));
}

function appraise(lines: readonly string[], more: Partial<RuntimeIntegrityEvidence> = {}): RuntimeIntegrity {
  return appraiseRuntimeIntegrity({
    list: lines.map((text) => `${text}\n`).join(''),
    firstEntry: 0,
    bank: 'sha256',
    quotedPcr: pcrAfter(lines),
    policy: policy(),
    violations: 'fail',
    ...more,
  });
}

const kinds = ({ failures }: RuntimeIntegrity) =>
  failures.map((failure) => ('index' in failure ? `${failure.index} ${failure.kind}` : failure.kind));

test('a list of listed files that leads to the quoted PCR passes and says where the next part begins', () => {
  const result = appraise([boot, hello]);
  assert.deepEqual(kinds(result), []);
  assert.deepEqual(
    [result.entryCount, result.certifiedEntries, result.uncertifiedEntries, result.nextEntry],
    [2, 2, 0, 2],
  );
  assert.deepEqual(result.runningPcr, pcrAfter([boot, hello]));
  const next = appraise([hello.replace('hello', 'more')], {
    firstEntry: result.nextEntry,
    runningPcr: result.runningPcr,
    quoteProgress: result.quoteProgress,
    quotedPcr: result.runningPcr,
  });
  assert.deepEqual([kinds(next), next.uncertifiedEntries, next.nextEntry], [[], 1, 2]);
});

test('a full list starts from zeros whatever running value is remembered', () => {
  assert.deepEqual(kinds(appraise([boot, hello], { runningPcr: Buffer.alloc(32, 7) })), []);
});

test('entries beyond the quote neither pass nor fail', () => {
  const result = appraise([boot, hello, line(`ima-ng sha256:${D} /opt/unknown`), 'nonsense'], {
    quotedPcr: pcrAfter([boot, hello]),
  });
  assert.deepEqual([kinds(result), result.certifiedEntries, result.uncertifiedEntries], [[], 2, 2]);
});

test('an unknown path and a digest that is not listed fail where they are', () => {
  const result = appraise([
    boot,
    line(`ima-ng sha256:${D} /opt/evil`),
    line(`ima-sig sha256:${OTHER} /opt/demo/hello `),
  ]);
  assert.deepEqual(result.failures, [
    {
      kind: 'ima_path_unknown',
      index: 1,
      path: '/opt/evil',
      template: 'ima-ng',
      map: 'digests',
      actual: D,
      explanation: { listedFor: ['/opt/demo/hello'] },
    },
    {
      kind: 'ima_digest_not_allowed',
      index: 2,
      path: '/opt/demo/hello',
      template: 'ima-sig',
      map: 'digests',
      actual: OTHER,
      expected: [D],
    },
  ]);
});

test('only the hex of a digest is compared, in every template that measures files', () => {
  const sha1 = 'f572d396fae9206628714fb2ce00f72e94f2258f';
  const lines = [
    boot,
    line(`ima ${sha1} /opt/demo/hello`),
    line(`ima-ngv2 ima:sha256:${D} /opt/demo/hello`),
    line(`ima-ng sm3:${D} /opt/demo/hello`),
  ];
  const digests = { boot_aggregate: [BOOT], '/opt/demo/hello': [sha1, D] };
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ digests }) })), []);
});

test('excludes admit files whatever their digest', () => {
  const lines = [boot, line(`ima-ng sha256:${D} /tmp/x`), line(`ima-ng sha256:${OTHER} /opt/demo/hello`)];
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ excludes: ['/tmp', '/opt/demo/h.*$'] }) })), []);
  assert.deepEqual(kinds(appraise(lines)), ['1 ima_path_unknown', '2 ima_digest_not_allowed']);
});

test('a template hash column that is not the hash of the fields fails, a column of ones included', () => {
  const evil = `ima-ng sha256:${D} /opt/evil`;
  const lines = [boot, line(evil, 'f'.repeat(40)), line(evil, '2'.repeat(40)), line(evil, `${'0'.repeat(39)}1`)];
  assert.deepEqual(
    kinds(appraise(lines)),
    [1, 2, 3].map((i) => `${i} ima_template_hash_mismatch`),
  );
});

test('the column is checked in the algorithm that the policy names', () => {
  const sha256 = (text: string) => {
    const parsed = parseImaLine(text);
    return text.replace(
      / [0-9a-f]{40} /,
      ` ${parsed.ok ? digest('sha256', parsed.value.templateInput).toString('hex') : ''} `,
    );
  };
  const lines = [boot, hello].map(sha256);
  const ima = { ignored_keyrings: [], log_hash_alg: 'sha256', dm_policy: null };
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ ima }) })), []);
  assert.deepEqual(kinds(appraise(lines)), ['0 ima_template_hash_mismatch', '1 ima_template_hash_mismatch']);
});

test('violations fail or are accepted as was decided, and are counted', () => {
  const violation = line(`ima-ng sha256:${'0'.repeat(64)} /opt/log`, '0'.repeat(40));
  assert.deepEqual(kinds(appraise([boot, violation])), ['1 ima_violation']);
  const accepted = appraise([boot, violation], { violations: 'accept' });
  assert.deepEqual([kinds(accepted), accepted.violationCount], [[], 1]);
});

test('a line that is no entry fails with what is wrong, shown safely, and the quote is not reached', () => {
  const result = appraise([boot, '10 zz \u001b[2J', hello], { quotedPcr: Buffer.alloc(32, 1) });
  assert.deepEqual(result.failures[0], {
    kind: 'ima_entry_malformed',
    index: 1,
    problem: 'field_count',
    line: '10 zz \\x1b[2J',
  });
  assert.deepEqual(kinds(result), ['1 ima_entry_malformed', 'ima_pcr_mismatch']);
});

test('an entry of another PCR fails', () => {
  assert.deepEqual(kinds(appraise([boot, line(`ima-ng sha256:${D} /opt/demo/hello`, undefined, '11')])), [
    '1 ima_pcr_not_ten',
  ]);
});

test('a list that does not lead to the quoted value fails', () => {
  const result = appraise([boot, hello], { quotedPcr: Buffer.alloc(32, 1) });
  assert.deepEqual(result.failures, [
    { kind: 'ima_pcr_mismatch', quoted: '01'.repeat(32), replayed: pcrAfter([boot, hello]).toString('hex') },
  ]);
});

test('a full list must begin with a certified boot_aggregate: no list at all is none either', () => {
  assert.deepEqual(kinds(appraise([hello])), ['ima_boot_aggregate_missing']);
  assert.deepEqual(kinds(appraise([], { quotedPcr: Buffer.alloc(32) })), ['ima_boot_aggregate_missing']);
  assert.deepEqual(kinds(appraise([boot, hello], { quotedPcr: Buffer.alloc(32) })), ['ima_boot_aggregate_missing']);
  const hidden = line(`ima-ng sha256:${BOOT} boot_aggregate`, '0'.repeat(40));
  assert.deepEqual(kinds(appraise([hidden], { violations: 'accept' })), ['ima_boot_aggregate_missing']);
});

test('a boot aggregate that a verified boot log gives is accepted besides those of the policy', () => {
  const lines = [line(`ima-ng sha256:${OTHER} boot_aggregate`)];
  assert.deepEqual(kinds(appraise(lines)), ['0 ima_digest_not_allowed']);
  assert.deepEqual(kinds(appraise(lines, { bootAggregates: [OTHER] })), []);
  assert.deepEqual(kinds(appraise(lines, { bootAggregates: [OTHER], policy: policy({ digests: {} }) })), []);
});

test('a quote that stays behind while the list grows fails', () => {
  const first = appraise([boot, hello, hello], { quotedPcr: pcrAfter([boot, hello]) });
  const stuck = {
    firstEntry: first.nextEntry,
    runningPcr: first.runningPcr,
    quoteProgress: first.quoteProgress,
    quotedPcr: first.runningPcr,
  };
  assert.deepEqual(kinds(appraise([hello, hello], stuck)), ['ima_quote_progress']);
  assert.deepEqual(kinds(appraise([hello], { ...stuck, quotedPcr: pcrAfter([hello], first.runningPcr) })), []);
});

test('a buffer is judged by its own map, and only with the digest that it has', () => {
  const buffer = Buffer.from('kernel_version=6.9;');
  const hex = digest('sha256', buffer).toString('hex');
  const good = line(`ima-buf sha256:${hex} kernel_info ${buffer.toString('hex')}`);
  const forged = line(`ima-buf sha256:${hex} kernel_info ${Buffer.from('kernel_version=6.8;').toString('hex')}`);
  const digests = { boot_aggregate: [BOOT], kernel_info: [hex] };
  const listed = policy({ digests, 'ima-buf': { kernel_info: [hex] } });
  assert.deepEqual(kinds(appraise([boot, good], { policy: listed })), []);
  assert.deepEqual(kinds(appraise([boot, good], { policy: policy({ digests }) })), ['1 ima_path_unknown']);
  const result = appraise([boot, forged, line(`ima-buf md5:${'0'.repeat(32)} kernel_info 00`)], { policy: listed });
  assert.deepEqual(kinds(result), ['1 ima_buffer_digest_mismatch', '2 ima_buffer_digest_mismatch']);
});

test('a key is judged by the map of keyrings, which no exclude opens', () => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const der = publicKey.export({ format: 'der', type: 'spki' });
  const hex = digest('sha256', der).toString('hex');
  const lines = [boot, line(`ima-buf sha256:${hex} .ima ${der.toString('hex')}`)];
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ excludes: ['.*'], 'ima-buf': { '.ima': [hex] } }) })), [
    '1 ima_path_unknown',
  ]);
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ keyrings: { '.ima': [hex] } }) })), []);
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ keyrings: { '.ima': [OTHER] } }) })), [
    '1 ima_digest_not_allowed',
  ]);
  for (const ring of ['.ima', '*']) {
    const ima = { ignored_keyrings: [ring], log_hash_alg: 'sha1', dm_policy: null };
    assert.deepEqual(kinds(appraise(lines, { policy: policy({ ima }) })), []);
  }
  const ed25519 = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
  const unsupported = line(
    `ima-buf sha256:${digest('sha256', ed25519).toString('hex')} .ima ${ed25519.toString('hex')}`,
  );
  assert.deepEqual(kinds(appraise([boot, unsupported])), ['1 ima_key_unsupported']);
});

test('a signature field that is no signature fails even where the file is listed or excluded', () => {
  const lines = [boot, line(`ima-sig sha256:${D} /opt/demo/hello 030204aabbccdd0004`)];
  assert.deepEqual(kinds(appraise(lines, { policy: policy({ excludes: ['/opt'] }) })), ['1 ima_signature_malformed']);
});

test('names that are not UTF-8 are compared byte by byte', () => {
  const bytes = Buffer.from(line(`ima-ng sha256:${D} /opt/\xff`), 'latin1');
  const digests = { boot_aggregate: [BOOT], '/opt/\udcff': [D], '/opt/\ufffd': [OTHER] };
  const list = Buffer.concat([Buffer.from(`${boot}\n`), bytes]);
  const quotedPcr = pcrAfter([boot, bytes.toString('latin1')]);
  assert.deepEqual(kinds(appraise([], { list, quotedPcr, policy: policy({ digests }) })), []);
  assert.deepEqual(kinds(appraise([], { list, quotedPcr })), ['1 ima_path_unknown']);
});

test('of very many failures the first hundred are told and all are counted', () => {
  const evil = Array.from({ length: 300 }, (_, i) => line(`ima-ng sha256:${D} /opt/evil-${i}`));
  const result = appraise([boot, ...evil]);
  assert.deepEqual([result.failures.length, result.failureCount], [100, 300]);
});

test('many failures do not hide one of another kind behind them', () => {
  const evil = Array.from({ length: 300 }, (_, i) => line(`ima-ng sha256:${D} /opt/evil-${i}`));
  const unreadable = `10 ${'1'.repeat(40)} nothing`;
  const result = appraise([boot, ...evil, unreadable], { quotedPcr: Buffer.alloc(32, 1) });
  const others = kinds(result).filter((kind) => !kind.endsWith('ima_path_unknown'));
  assert.deepEqual(others, ['301 ima_entry_malformed', 'ima_pcr_mismatch']);
});

const vector = (name: string) =>
  readFileSync(new URL(`../../testing/vectors/debian12-uefi-vm/${name}`, import.meta.url));

test('the tampered real machine fails for its unknown script and for nothing else', () => {
  const digests: Record<string, string[]> = {};
  for (const bytes of nonBlankLines(vector('ima.txt'))) {
    const parsed = parseImaLine(bytes);
    assert.ok(parsed.ok);
    const { path, fileDigest } = parsed.value;
    digests[path] = [...(digests[path] ?? []), fileDigest.hex];
  }
  const [, quoted = ''] = /^10 ([0-9A-F]{64})$/m.exec(vector('pcr10-after-evil.txt').toString()) ?? [];
  const result = appraise([], {
    list: vector('ima-after-evil.txt'),
    quotedPcr: Buffer.from(quoted, 'hex'),
    policy: policy({ digests, excludes: ['/usr/bin/chmod$', '/usr/sbin/agetty$', '/etc/issue$'] }),
  });
  assert.equal(result.certifiedEntries, 369);
  assert.deepEqual(
    result.failures.map((failure) => 'path' in failure && failure.path),
    ['/usr/local/bin/evil'],
  );
});

test('another bank than the remembered one cannot match', () => {
  const result = appraise([hello], {
    bank: 'sha384',
    firstEntry: 1,
    runningPcr: Buffer.alloc(32),
    quotedPcr: Buffer.alloc(digestSize('sha384')),
  });
  assert.deepEqual(kinds(result), ['ima_pcr_mismatch']);
});
