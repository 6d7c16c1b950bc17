import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DmEventName } from '@keylime/ima/dm-event';
import { failureEvent } from './event.ts';
import { appraiseLines, BOOT_LINE, bufferLine, lineOf, pcrAfter, policyWith, sha256 } from './list.fixture.ts';
import type { RuntimeIntegrity } from './runtime-integrity.ts';

const ROOT = '4f1c1e0c7f8f4a5b9f7f1d8f0f9e2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b';
const V = 'dm_version=4.45.0;';
const CAPACITY = 'current_device_capacity=2048;';

const metadata = (name = 'rootfs', { uuid = 'CRYPT-VERITY-1', targets = 1 } = {}) =>
  `name=${name},uuid=${uuid},major=253,minor=0,minor_count=1,num_targets=${targets}`;
const head = (target: string, index = 0) =>
  `target_index=${index},target_begin=0,target_len=2048,target_name=${target},target_version=1.8.0,`;
const verity = (digest = ROOT) =>
  `${head('verity')}hash_failed=V,verity_version=1,data_device_name=253:1,hash_device_name=253:2,verity_algorithm=sha256,root_digest=${digest},salt=ab12,ignore_zero_blocks=n,check_at_most_once=n,verity_mode=restart_on_corruption;`;
const linear = (index = 0, start = '2048') => `${head('linear', index)}device_name=8:2,start=${start};`;

const load = (target = verity(), name?: string, more?: Parameters<typeof metadata>[1]) =>
  `${V}${metadata(name, more)};${target}`;
const resume = (table: string, name?: string, more?: Parameters<typeof metadata>[1]) =>
  `${V}${metadata(name, more)};active_table_hash=sha256:${sha256(table)};${CAPACITY}`;

const RULE = {
  required: false,
  device_resume_required: false,
  allow_clear: false,
  device_rename: { valid_name: 'rootfs|rootfs-old', valid_uuid: null },
  device_remove: { allow_removal: false },
  table_load: {
    allow_multiple_loads: false,
    name: 'rootfs(-old)?',
    uuid: 'CRYPT-VERITY-.*',
    major: 253,
    minor: null,
    minor_count: 1,
    num_targets: 1,
    targets: [
      {
        target_index: 0,
        target_name: 'verity',
        verity_algorithm: 'sha256',
        root_digest: ROOT,
        ignore_zero_blocks: false,
      },
    ],
  },
};

type Rule = typeof RULE;
type Changes = { readonly [K in keyof Rule]?: unknown };

const policyOf = (changes: Changes = {}, matchOn = 'name') =>
  policyWith({ ima: { dm_policy: { version: 1, match_on: matchOn, rules: { rootfs: { ...RULE, ...changes } } } } });
const tableRule = (changes: object) => ({ table_load: { ...RULE.table_load, ...changes } });

type Event = readonly [DmEventName, string | Uint8Array];
const linesOf = (events: readonly Event[]) => [BOOT_LINE, ...events.map(([name, text]) => bufferLine(name, text))];
const appraise = (events: readonly Event[], policy = policyOf()) => appraiseLines(linesOf(events), { policy });

/** Event ids without `ima.validation.dm.`, in the words of the API. */
const idsOf = ({ failures }: Pick<RuntimeIntegrity, 'failures'>) =>
  failures.map((failure) => failureEvent(failure).eventId.replace('ima.validation.dm.', ''));
const ids = (events: readonly Event[], policy = policyOf()) => idsOf(appraise(events, policy));

test('a device that is loaded and resumed as its rule says passes', () => {
  const policy = policyOf({ required: true, device_resume_required: true });
  assert.deepEqual(
    ids(
      [
        ['dm_table_load', load()],
        ['dm_device_resume', resume(load())],
      ],
      policy,
    ),
    [],
  );
});

test('NUL bytes in the text count for nothing', () => {
  assert.deepEqual(ids([['dm_table_load', Buffer.from(`\0${load()}\0`)]]), []);
});

for (const [what, text, rule, expected] of [
  [
    'a digest that is not the one wanted',
    load(verity('ab')),
    {},
    ['dm_table_load.target_data_mismatch', 'dm_table_load.target_data_invalid'],
  ],
  [
    'an attribute that the target does not have',
    load(),
    tableRule({ targets: [{ target_name: 'verity', root_hash_sig_key_desc: '.*' }] }),
    ['dm_table_load.target_attribute_not_found'],
  ],
  ['a name that no rule is for', load(verity(), 'other'), {}, ['dm_table_load.no_matching_policy']],
  ['a name of which a rule matches a part only', load(verity(), 'rootfs2'), {}, ['dm_table_load.no_matching_policy']],
  ['another uuid', load(verity(), 'rootfs', { uuid: 'LVM-1' }), {}, ['dm_table_load.invalid_entry']],
  ['no uuid', load(verity(), 'rootfs', { uuid: '' }), {}, ['dm_table_load.invalid_entry']],
  ['another major number', load(), tableRule({ major: 8 }), ['dm_table_load.invalid_entry']],
  [
    'a target that no rule has',
    load(verity() + linear(1), 'rootfs', { targets: 2 }),
    {},
    ['dm_table_load.invalid_entry'],
  ],
  ['more targets than it announces', load(verity() + linear(1)), {}, ['dm_table_load.num_targets_mismatch']],
  [
    'more targets announced than the rule has',
    load(verity(), 'rootfs', { targets: 2 }),
    {},
    ['dm_table_load.invalid_entry'],
  ],
  [
    'a part that is too short for the kernel to have cut it there',
    load(verity(), 'rootfs', { targets: 2 }),
    tableRule({ num_targets: 2, targets: [{ target_name: 'verity' }, { target_name: 'linear' }] }),
    ['dm_table_load.num_targets_mismatch'],
  ],
] as const) {
  test(`a table is refused: ${what}`, () => {
    assert.deepEqual(ids([['dm_table_load', text]], policyOf(rule)), expected);
  });
}

for (const [target, attributes] of [
  [
    'crypt',
    'allow_discards=y,same_cpu_crypt=n,submit_from_crypt_cpus=n,no_read_workqueue=n,no_write_workqueue=n,iv_large_sectors=n,cipher_string=capi:xts(aes)-plain64,key_size=64,key_parts=1,key_extra_size=0,key_mac_size=0',
  ],
  [
    'integrity',
    'dev_name=253:1,start=0,tag_size=32,mode=J,block_size=4096,recalculate=n,allow_discards=n,fix_padding=y,fix_hmac=y,legacy_recalculate=n,journal_sectors=88,interleave_sectors=32768,buffer_sectors=128',
  ],
  ['linear', 'device_name=8:2,start=2048'],
  ['snapshot', 'snap_origin_name=253:3,snap_cow_name=253:4,snap_valid=y,snap_merge_failed=n,snapshot_overflowed=n'],
  [
    'mirror',
    'nr_mirrors=2,mirror_device_0=8:1,mirror_device_0_status=A,mirror_device_1=8:2,mirror_device_1_status=A,handle_errors=y,keep_log=n,log_type_status=',
  ],
  [
    'cache',
    'metadata_mode=rw,cache_metadata_device=253:2,cache_device=253:1,cache_origin_device=253:5,writethrough=n,writeback=y,passthrough=n,metadata2=n,no_discard_passdown=n',
  ],
] as const) {
  test(`a target of kind ${target} is read, and each of its attributes can be judged`, () => {
    const text = load(`${head(target)}${attributes};`);
    const last =
      attributes
        .split(',')
        .findLast((pair) => /=[yn]$|=\d+$/.test(pair))
        ?.split('=') ?? [];
    const [name = '', value = ''] = last;
    const wanted = (reference: string) =>
      policyOf(tableRule({ targets: [{ target_name: target, [name]: reference }] }));
    assert.deepEqual(ids([['dm_table_load', text]], wanted(value)), []);
    assert.deepEqual(ids([['dm_table_load', text]], wanted('other'))[0], 'dm_table_load.target_data_mismatch');
  });
}

test('mirrors are told apart', () => {
  const text = load(
    `${head('mirror')}nr_mirrors=2,mirror_device_0=8:1,mirror_device_0_status=A,mirror_device_1=8:2,mirror_device_1_status=D,handle_errors=y,keep_log=n,log_type_status=;`,
  );
  const rule = (status: string) => policyOf(tableRule({ targets: [{ mirror_device_1_status: status }] }));
  assert.deepEqual(ids([['dm_table_load', text]], rule('D')), []);
  assert.deepEqual(ids([['dm_table_load', text]], rule('A'))[0], 'dm_table_load.target_data_mismatch');
});

test('a table may be loaded again only where the rule allows it', () => {
  const twice: readonly Event[] = [
    ['dm_table_load', load()],
    ['dm_table_load', load()],
  ];
  assert.deepEqual(ids(twice), ['dm_table_load.multiple_table_loads']);
  assert.deepEqual(ids(twice, policyOf(tableRule({ allow_multiple_loads: true }))), []);
});

test('a device is resumed once, with the table that was loaded', () => {
  const loaded: Event = ['dm_table_load', load()];
  assert.deepEqual(ids([['dm_device_resume', resume(load())]]), ['dm_device_resume.resume_before_table_load']);
  assert.deepEqual(ids([loaded, ['dm_device_resume', resume('other')]]), ['dm_device_resume.active_table_mismatch']);
  const resumed: Event = ['dm_device_resume', resume(load())];
  assert.deepEqual(ids([loaded, resumed, resumed]), ['dm_device_resume.already_active']);
  const noData = `${V}name=rootfs,uuid=CRYPT-VERITY-1;device_resume=no_data;${CAPACITY}`;
  assert.deepEqual(ids([loaded, ['dm_device_resume', noData]]), ['dm_device_resume.active_table_mismatch']);
});

const removal = (text: string): Event => ['dm_device_remove', `${V}${text}remove_all=n;${CAPACITY}`];
for (const [what, event] of [
  ['with its active table', removal(`device_active_metadata=${metadata()};active_table_hash=sha256:ab,`)],
  ['with its inactive table only', removal(`device_inactive_metadata=${metadata()};inactive_table_hash=sha256:ab,`)],
  [
    'with both tables, as the kernel prints them',
    removal(
      `device_active_metadata=${metadata()};device_inactive_metadata=${metadata()};active_table_hash=sha256:ab,inactive_table_hash=sha256:cd,`,
    ),
  ],
  [
    'with both tables, as they are documented',
    removal(
      `device_active_metadata=${metadata()};device_inactive_metadata=${metadata()};active_table_hash=sha256:ab;inactive_table_hash=sha256:cd,`,
    ),
  ],
  ['without a table', removal('name=rootfs,uuid=CRYPT-VERITY-1;device_remove=no_data;')],
] as const) {
  test(`a device is removed ${what}, if its rule allows it and it is there`, () => {
    const allowed = policyOf({ device_remove: { allow_removal: true } });
    const loaded: Event = ['dm_table_load', load()];
    assert.deepEqual(ids([event], allowed), ['dm_device_remove.remove_before_table_load']);
    assert.deepEqual(ids([loaded, event]), ['dm_device_remove.device_removed']);
    assert.deepEqual(ids([loaded, event, loaded], allowed), []);
  });
}

for (const text of [
  `${V}name=rootfs,uuid=CRYPT-VERITY-1;table_clear=no_data;${CAPACITY}`,
  `${V}${metadata()};inactive_table_hash=sha256:ab;${CAPACITY}`,
]) {
  test(`a table is cleared only where the rule allows it: ${text.slice(18, 60)}`, () => {
    const [loaded, clear]: Event[] = [
      ['dm_table_load', load()],
      ['dm_table_clear', text],
    ];
    assert.ok(loaded && clear);
    assert.deepEqual(ids([clear]), ['dm_table_clear.clear_before_table_load']);
    assert.deepEqual(ids([loaded, clear]), ['dm_table_clear.table_cleared']);
    assert.deepEqual(ids([loaded, clear], policyOf({ allow_clear: true })), []);
  });
}

const rename = (newName: string, newUuid = 'CRYPT-VERITY-1', name?: string): Event => [
  'dm_device_rename',
  `${V}${metadata(name)};new_name=${newName},new_uuid=${newUuid};${CAPACITY}`,
];

test('a device keeps its record under a new name that the rule allows', () => {
  const loaded: Event = ['dm_table_load', load()];
  assert.deepEqual(ids([rename('rootfs-old')]), ['dm_device_rename.rename_before_table_load']);
  assert.deepEqual(ids([loaded, rename('evil')]), ['dm_device_rename.new_name_invalid']);
  assert.deepEqual(ids([loaded, rename('rootfs-old'), ['dm_device_resume', resume(load(), 'rootfs-old')]]), []);
  assert.deepEqual(ids([loaded, rename('rootfs-old'), ['dm_device_resume', resume(load())]]), [
    'dm_device_resume.resume_before_table_load',
  ]);
  const fixed = policyOf({ device_rename: { valid_name: null, valid_uuid: 'CRYPT-VERITY-1' } });
  assert.deepEqual(ids([loaded, rename('rootfs', 'other')], fixed), ['dm_device_rename.new_uuid_invalid']);
  assert.deepEqual(ids([loaded, rename('evil', 'other')], policyOf({ device_rename: {} })), [
    'dm_device_rename.new_name_invalid',
    'dm_device_rename.new_uuid_invalid',
  ]);
});

test('a device does not take the name of another one', () => {
  const policy = policyOf(tableRule({ name: 'rootfs(-old)?' }));
  const loads: readonly Event[] = [
    ['dm_table_load', load()],
    ['dm_table_load', load(verity(), 'rootfs-old')],
  ];
  assert.deepEqual(ids(loads, policy), []);
  assert.deepEqual(ids([...loads, rename('rootfs-old')], policy), ['dm_device_rename.multiple_table_loads']);
});

test('where devices are known by uuid, one that is renamed is known by its new uuid', () => {
  const policy = policyOf({ device_rename: { valid_name: null, valid_uuid: null } }, 'uuid');
  const loaded: Event = ['dm_table_load', load()];
  const resumed: Event = ['dm_device_resume', resume(load(), 'other', { uuid: 'new' })];
  assert.deepEqual(ids([loaded, rename('other', 'new'), resumed], policy), []);
});

test('an updated target is judged by the rule of its index', () => {
  const loaded: Event = ['dm_table_load', load()];
  const update = (target: string): Event => ['dm_target_update', load(target)];
  assert.deepEqual(ids([update(verity())]), ['dm_target_update.update_before_table_load']);
  assert.deepEqual(ids([loaded, update(verity())]), []);
  assert.deepEqual(ids([loaded, update(verity('ab'))])[0], 'dm_target_update.target_data_mismatch');
  const beyond = verity().replace('target_index=0', 'target_index=7');
  assert.deepEqual(ids([loaded, update(beyond)]), ['dm_target_update.target_data_mismatch']);
});

test('a table that the kernel cut in two is one table', () => {
  const targets = Array.from({ length: 60 }, (_, i) => linear(i, String(i)));
  const more = { targets: 60 };
  const [first, second] = [
    load(targets.slice(0, 40).join(''), 'rootfs', more),
    load(targets.slice(40).join(''), 'rootfs', more),
  ];
  const rule = tableRule({
    num_targets: 60,
    targets: targets.map((_, i) => ({ target_name: 'linear', start: String(i) })),
  });
  const policy = policyOf({ ...rule, required: true, device_resume_required: true });
  const loads: readonly Event[] = [
    ['dm_table_load', first],
    ['dm_table_load', second],
  ];
  const resumed: Event = ['dm_device_resume', resume(first + second, 'rootfs', more)];
  assert.deepEqual(ids([...loads, resumed], policy), []);
  assert.deepEqual(
    ids([...loads, ['dm_device_resume', resume(second, 'rootfs', more)]], policy)[0],
    'dm_device_resume.active_table_mismatch',
  );
  assert.deepEqual(ids(loads.slice(0, 1), policy), ['device_invalid_state', 'required_policy_not_in_use']);
  assert.deepEqual(ids([...loads.slice(0, 1), resumed], policy).slice(0, 2), [
    'dm_device_resume.num_targets_mismatch',
    'dm_device_resume.resume_before_table_load',
  ]);

  const half = linesOf(loads.slice(0, 1));
  const before = appraiseLines(half, { policy, quotedPcr: pcrAfter(half.slice(0, 1)) });
  assert.deepEqual(idsOf(before), [], 'what comes beyond the quote is not taken in');
  const start = appraiseLines(linesOf(loads), { policy, quotedPcr: pcrAfter(half) });
  assert.deepEqual(idsOf(start), []);
  const rest = linesOf([...loads, resumed]).slice(2);
  const next = {
    policy,
    firstEntry: 2,
    runningPcr: start.runningPcr,
    devices: JSON.parse(JSON.stringify(start.devices)),
  };
  assert.deepEqual(idsOf(appraiseLines(rest, next)), [], 'the first half is remembered, as JSON');
});

test('required devices and resumes are asked for: what the quote does not cover yet is neither a pass nor a failure', () => {
  const policy = policyOf({ required: true, device_resume_required: true });
  const events: readonly Event[] = [
    ['dm_table_load', load()],
    ['dm_device_resume', resume(load())],
  ];
  assert.deepEqual(ids([], policy), ['required_policy_not_in_use']);
  assert.deepEqual(ids(events.slice(0, 1), policy), ['device_invalid_state']);
  const lines = linesOf(events);
  const half = appraiseLines(lines, { policy, quotedPcr: pcrAfter(lines.slice(0, 2)) });
  assert.deepEqual([idsOf(half), idsOf({ failures: half.unsettled })], [[], ['device_invalid_state']]);
  const settled = appraiseLines([...lines, lines[0] ?? ''], { policy, quotedPcr: pcrAfter(lines) });
  assert.deepEqual([idsOf(settled), settled.uncertifiedEntries, settled.unsettled], [[], 1, []]);
});

test('devices are remembered, and judged by what they were', () => {
  const policy = policyOf();
  const first = appraiseLines(linesOf([['dm_table_load', load()]]), { policy });
  const lines = [bufferLine('dm_device_resume', resume(load()))];
  const more = { policy, firstEntry: 2, runningPcr: first.runningPcr };
  assert.deepEqual(idsOf(appraiseLines(lines, { ...more, devices: JSON.parse(JSON.stringify(first.devices)) })), []);
  assert.deepEqual(idsOf(appraiseLines(lines, more)), ['dm_device_resume.resume_before_table_load']);
  const again = appraiseLines(linesOf([['dm_table_load', load()]]), { policy, devices: first.devices });
  assert.deepEqual(idsOf(again), [], 'with a list from its first entry on, nothing is there yet');
});

test('an event under the digest of another one fails', () => {
  const forged = lineOf(
    `ima-buf sha256:${sha256(load())} dm_table_load ${Buffer.from(load(verity('ab'))).toString('hex')}`,
  );
  assert.deepEqual(idsOf(appraiseLines([BOOT_LINE, forged], { policy: policyOf() })), ['invalid_data']);
});

test('without a policy for devices their events are ordinary buffers', () => {
  const result = appraiseLines(linesOf([['dm_table_load', load()]]));
  assert.deepEqual(idsOf(result), ['ima.validation.ima-ng.not_in_allowlist']);
  const listed = policyWith({ 'ima-buf': { dm_table_load: [sha256(load())] } });
  assert.deepEqual(idsOf(appraiseLines(linesOf([['dm_table_load', load()]]), { policy: listed })), []);
});

test('names may have the characters of the field, and escaped separators', () => {
  const any = policyOf(tableRule({ name: '.*' }));
  for (const name of ['my.dev_1+tag@host#2', 'a/b', String.raw`a\,b\;c\=d\\e`]) {
    assert.deepEqual(ids([['dm_table_load', load(verity(), name)]], any), [], name);
  }
  const exactly = policyOf(tableRule({ name: 'a,b' }));
  assert.deepEqual(ids([['dm_table_load', load(verity(), String.raw`a\,b`)]], exactly), []);
});

for (const [what, text] of [
  ['a name with a lone backslash', load(verity(), String.raw`test\device`)],
  ['a name with brackets', load(verity(), 'test[0]')],
  ['a name with a backquote', load(verity(), 'test`dev')],
  ['a name with a circumflex', load(verity(), 'test^dev')],
  ['no name', load(verity(), '')],
  ['a target that is not supported', load(`${head('multipath')}nr_groups=1;`)],
  ['an attribute that is left out', load(verity().replace('salt=ab12,', ''))],
  [
    'attributes in another order',
    load(verity().replace('salt=ab12,ignore_zero_blocks=n', 'ignore_zero_blocks=n,salt=ab12')),
  ],
  ['an attribute too many', load(verity().replace(';', ',extra=1;'))],
  ['no target', `${V}${metadata()};`],
  ['no version', load().slice(V.length)],
  ['an end that is missing', load().slice(0, -1)],
  ['no UTF-8', Buffer.concat([Buffer.from(load()), Buffer.of(0xff)])],
  ['nothing', ''],
  ['mirrors without end', load(`${head('mirror')}nr_mirrors=99999999999999;`)],
] as const) {
  test(`an event that cannot be read is a failure with its index: ${what}`, () => {
    const result = appraise([['dm_table_load', text]]);
    assert.deepEqual(idsOf(result), ['parsing_failed']);
    assert.equal(failureEvent(result.failures[0] ?? { kind: 'ima_boot_aggregate_missing' }).context.index, 1);
  });
}
