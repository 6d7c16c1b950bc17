import { bad, good, type Parsed } from '@keylime/core/parsed';

/** The events of device mapper that IMA measures (Linux drivers/md/dm-ima.c). */
export const DM_EVENTS = [
  'dm_table_load',
  'dm_device_resume',
  'dm_device_remove',
  'dm_table_clear',
  'dm_device_rename',
  'dm_target_update',
] as const;

export type DmEventName = (typeof DM_EVENTS)[number];

export const isDmEventName = (name: string): name is DmEventName => (DM_EVENTS as readonly string[]).includes(name);

/** Values as text, unescaped, by their names. */
export type DmValues = ReadonlyMap<string, string>;

/** One device-mapper event. `device` has at least `name` and `uuid`; values are as printed. */
export type DmEvent = {
  readonly event: DmEventName;
  readonly device: DmValues;
  /** Of `dm_table_load` and `dm_target_update`. */
  readonly targets: readonly DmValues[];
  /** `algorithm:hex` of the active table; of `dm_device_resume`, absent where the device has none. */
  readonly tableHash?: string;
  readonly newName?: string;
  readonly newUuid?: string;
};

/** What could not be read, in words. */
export type DmEventProblem = string;

/** Text of any kind, as of a device or an algorithm; the kernel puts a backslash before `\ ; = ,`. */
const TEXT = String.raw`(?:[A-Za-z0-9:_.+@#/()%~!*-]|\\[\\;=,])+`;
const PATTERNS = {
  text: new RegExp(`^${TEXT}$`),
  /** Text that may be empty. */
  empty: new RegExp(`^(?:${TEXT})?$`),
  number: /^\d+$/,
  switch: /^[yn]$/,
  version: /^\d+\.\d+\.\d+$/,
} as const;

type Kind = keyof typeof PATTERNS;
/** Name, kind, and whether it may be left out. */
type Field = readonly [name: string, kind: Kind, optional?: 'optional'];

const METADATA: readonly Field[] = [
  ['name', 'text'],
  ['uuid', 'empty'],
  ['major', 'number'],
  ['minor', 'number'],
  ['minor_count', 'number'],
  ['num_targets', 'number'],
];
const NAMES: readonly Field[] = METADATA.slice(0, 2);
const NEW_NAMES: readonly Field[] = [
  ['new_name', 'text'],
  ['new_uuid', 'empty'],
];
const TARGET: readonly Field[] = [
  ['target_index', 'number'],
  ['target_begin', 'number'],
  ['target_len', 'number'],
  ['target_name', 'text'],
  ['target_version', 'version'],
];

/** Attributes by the kind of target, in the order in which the kernel prints them (`status` of each target, IMA form). */
const ATTRIBUTES: ReadonlyMap<string, readonly Field[]> = new Map([
  [
    'verity',
    [
      ['hash_failed', 'text'],
      ['verity_version', 'number'],
      ['data_device_name', 'text'],
      ['hash_device_name', 'text'],
      ['verity_algorithm', 'text'],
      ['root_digest', 'text'],
      ['salt', 'text'],
      ['ignore_zero_blocks', 'switch'],
      ['check_at_most_once', 'switch'],
      ['root_hash_sig_key_desc', 'text', 'optional'],
      ['verity_mode', 'text', 'optional'],
    ],
  ],
  [
    'crypt',
    [
      ['allow_discards', 'switch'],
      ['same_cpu_crypt', 'switch'],
      ['submit_from_crypt_cpus', 'switch'],
      ['no_read_workqueue', 'switch'],
      ['no_write_workqueue', 'switch'],
      ['iv_large_sectors', 'switch'],
      ['integrity_tag_size', 'number', 'optional'],
      ['cipher_auth', 'text', 'optional'],
      ['sector_size', 'number', 'optional'],
      ['cipher_string', 'text', 'optional'],
      ['key_size', 'number'],
      ['key_parts', 'number'],
      ['key_extra_size', 'number'],
      ['key_mac_size', 'number'],
    ],
  ],
  [
    'integrity',
    [
      ['dev_name', 'text'],
      ['start', 'number'],
      ['tag_size', 'number'],
      ['mode', 'text'],
      ['meta_device', 'text', 'optional'],
      ['block_size', 'text', 'optional'],
      ['recalculate', 'switch'],
      ['allow_discards', 'switch'],
      ['fix_padding', 'switch'],
      ['fix_hmac', 'switch'],
      ['legacy_recalculate', 'switch'],
      ['journal_sectors', 'number'],
      ['interleave_sectors', 'number'],
      ['buffer_sectors', 'number'],
    ],
  ],
  [
    'linear',
    [
      ['device_name', 'text'],
      ['start', 'text'],
    ],
  ],
  [
    'snapshot',
    [
      ['snap_origin_name', 'text'],
      ['snap_cow_name', 'text'],
      ['snap_valid', 'switch'],
      ['snap_merge_failed', 'switch'],
      ['snapshot_overflowed', 'switch'],
    ],
  ],
  [
    'cache',
    [
      ['metadata_mode', 'text'],
      ['cache_metadata_device', 'text'],
      ['cache_device', 'text'],
      ['cache_origin_device', 'text'],
      ['writethrough', 'switch'],
      ['writeback', 'switch'],
      ['passthrough', 'switch'],
      ['metadata2', 'switch'],
      ['no_discard_passdown', 'switch'],
    ],
  ],
]);

const MIRROR_END: readonly Field[] = [
  ['handle_errors', 'switch'],
  ['keep_log', 'switch'],
  ['log_type_status', 'empty'],
];

/** The attributes of a target whose values are `pairs`; a mirror has as many devices as it says. */
function attributesOf(target: string, pairs: DmValues): readonly Field[] {
  const attributes = ATTRIBUTES.get(target);
  if (attributes !== undefined) return attributes;
  if (target !== 'mirror') throw new DmTextError(`targets of type ${target} are not known`);
  const count = Number(pairs.get('nr_mirrors'));
  // As many as there are pairs at most: the count is what a stranger wrote.
  const mirrors = Array.from({ length: Math.min(count || 0, pairs.size) }, (_, i): Field[] => [
    [`mirror_device_${i}`, 'text'],
    [`mirror_device_${i}_status`, 'text'],
  ]);
  return [['nr_mirrors', 'number'], ...mirrors.flat(), ...MIRROR_END];
}

class DmTextError extends Error {}

/**
 * Reads the buffer of an `ima-buf` entry of `event`. Values are taken as the kernel prints them: in its order, with its
 * escapes, and with the `no_data` forms and those of devices with two tables. NUL bytes count for nothing. Source: Linux
 * drivers/md/dm-ima.c; Documentation/admin-guide/device-mapper/dm-ima.rst.
 */
export function parseDmEvent(event: DmEventName, buffer: Uint8Array): Parsed<DmEvent, DmEventProblem> {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(buffer).replaceAll('\0', '');
    const segments = split(text, ';');
    if (segments.pop() !== '') throw new DmTextError('the last semicolon is missing');
    const [version = '', ...rest] = segments;
    read(version, [['dm_version', 'version']]);
    return good({ event, ...readEvent(event, rest) });
  } catch (error) {
    if (error instanceof DmTextError) return bad(error.message);
    if (error instanceof TypeError) return bad('it is not UTF-8');
    throw error;
  }
}

type Content = Omit<DmEvent, 'event'>;

function readEvent(event: DmEventName, segments: readonly string[]): Content {
  const none: Content = { device: new Map(), targets: [] };
  switch (event) {
    case 'dm_table_load':
    case 'dm_target_update': {
      const [device = '', ...targets] = segments;
      if (targets.length === 0) throw new DmTextError('there is no target');
      if (event === 'dm_target_update' && targets.length > 1) throw new DmTextError('there is more than one target');
      return { device: read(device, METADATA), targets: targets.map(readTarget) };
    }
    case 'dm_device_resume': {
      const [device = '', state = ''] = capacityLast(segments, 3);
      if (state === 'device_resume=no_data') return { ...none, device: read(device, NAMES) };
      const tableHash = read(state, [['active_table_hash', 'text']]).get('active_table_hash') ?? '';
      return { ...none, device: read(device, METADATA), tableHash };
    }
    case 'dm_device_rename': {
      const [device = '', names = ''] = capacityLast(segments, 3);
      const renamed = read(names, NEW_NAMES);
      const [newName = '', newUuid = ''] = [renamed.get('new_name'), renamed.get('new_uuid')];
      return { ...none, device: read(device, METADATA), newName, newUuid };
    }
    case 'dm_table_clear': {
      const [device = '', state = ''] = capacityLast(segments, 3);
      if (state === 'table_clear=no_data') return { ...none, device: read(device, NAMES) };
      read(state, [['inactive_table_hash', 'text']]);
      return { ...none, device: read(device, METADATA) };
    }
    case 'dm_device_remove':
      return { ...none, device: readRemoval(segments) };
  }
}

/** The metadata of the active table, or of the inactive one where there is no other. */
function readRemoval(segments: readonly string[]): DmValues {
  const rest = [...capacityLast(segments)];
  const first = rest.shift() ?? '';
  if (rest[0] === 'device_remove=no_data') {
    if (rest.length !== 2) throw new DmTextError('segments are left over');
    read(rest[1] ?? '', [['remove_all', 'text']]);
    return read(first, NAMES);
  }
  const active = withoutPrefix(first, 'device_active_metadata=');
  const second = active === undefined ? first : (rest[0] ?? '');
  const inactive = withoutPrefix(second, 'device_inactive_metadata=');
  if (active !== undefined && inactive !== undefined) rest.shift();
  if (active === undefined && inactive === undefined) throw new DmTextError('there is no metadata of a table');
  // The hashes stand before `remove_all`, with commas in between and, as documented, semicolons.
  const hashes: readonly Field[] = [
    ...(active === undefined ? [] : ([['active_table_hash', 'text']] as const)),
    ...(inactive === undefined ? [] : ([['inactive_table_hash', 'text']] as const)),
  ];
  read(rest.join(','), [...hashes, ['remove_all', 'text']]);
  const inactiveDevice = inactive === undefined ? undefined : read(inactive, METADATA);
  return active === undefined ? (inactiveDevice ?? new Map()) : read(active, METADATA);
}

/** `segments` without the last, which says how large the device is. */
function capacityLast(segments: readonly string[], count = segments.length): readonly string[] {
  if (segments.length !== count) throw new DmTextError(`${count} segments are wanted, ${segments.length} found`);
  read(segments.at(-1) ?? '', [['current_device_capacity', 'number']]);
  return segments.slice(0, -1);
}

function readTarget(segment: string): DmValues {
  const pairs = split(segment, ',').map(pair);
  const head = fields(pairs.slice(0, TARGET.length), TARGET);
  const attributes = attributesOf(head.get('target_name') ?? '', new Map(pairs));
  return new Map([...head, ...fields(pairs.slice(TARGET.length), attributes)]);
}

const read = (segment: string, wanted: readonly Field[]): DmValues => fields(split(segment, ',').map(pair), wanted);

function fields(pairs: readonly (readonly [string, string])[], wanted: readonly Field[]): DmValues {
  const values = new Map<string, string>();
  let at = 0;
  for (const [name, kind, optional] of wanted) {
    const [found, value = ''] = pairs[at] ?? [];
    if (found !== name) {
      if (optional === 'optional') continue;
      throw new DmTextError(`${name} is wanted, ${found === undefined ? 'nothing' : shown(found)} found`);
    }
    if (!PATTERNS[kind].test(value)) throw new DmTextError(`${name} has the value ${shown(value)}`);
    values.set(name, value.replace(/\\(.)/g, '$1'));
    at++;
  }
  const [extra] = pairs.slice(at);
  if (extra !== undefined) throw new DmTextError(`${shown(extra[0])} is not expected`);
  return values;
}

function pair(text: string): readonly [string, string] {
  const [name = '', ...value] = split(text, '=');
  if (value.length !== 1) throw new DmTextError(`${shown(text)} is no name with a value`);
  return [name, value[0] ?? ''];
}

/** The parts of `text` between separators that no backslash stands before; escapes stay. */
function split(text: string, separator: ',' | ';' | '='): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === separator) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

const withoutPrefix = (text: string, prefix: string): string | undefined =>
  text.startsWith(prefix) ? text.slice(prefix.length) : undefined;

const shown = (text: string): string => `'${text.slice(0, 80)}'`;
