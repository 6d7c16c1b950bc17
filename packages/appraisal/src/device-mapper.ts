import { digest } from '@keylime/core/digest';
import { type DmEvent, type DmEventName, type DmValues, parseDmEvent } from '@keylime/ima/dm-event';
import { showName } from '@keylime/ima/list-text';
import {
  DM_METADATA,
  type DmPolicy,
  type DmReference,
  type DmRule,
  matchesReference,
} from '@keylime/policies/dm-policy';

/** What is wrong with a device-mapper event, or with the devices as a whole, by the names of the API's events. */
export type DmProblem =
  | 'invalid_data'
  | 'parsing_failed'
  | 'multiple_table_loads'
  | 'no_matching_policy'
  | 'invalid_entry'
  | 'num_targets_mismatch'
  | 'target_data_mismatch'
  | 'target_data_invalid'
  | 'target_attribute_not_found'
  | 'resume_before_table_load'
  | 'already_active'
  | 'active_table_mismatch'
  | 'remove_before_table_load'
  | 'device_removed'
  | 'clear_before_table_load'
  | 'table_cleared'
  | 'rename_before_table_load'
  | 'new_name_invalid'
  | 'new_uuid_invalid'
  | 'update_before_table_load'
  | 'device_invalid_state'
  | 'required_policy_not_in_use';

export type DmFinding = { readonly problem: DmProblem; readonly detail: string };

/** A device as the events left it. */
type Device = {
  readonly rule: string;
  readonly active: boolean;
  /** Not waiting to be resumed. */
  readonly valid: boolean;
  /** `algorithm:hex`; more than one where it could be told in several ways. */
  readonly hashes: readonly string[];
};

/** A table whose events have not all come yet: the kernel splits one that is larger than its buffer. */
type Pending = { readonly key: string; readonly texts: readonly string[]; readonly targets: number };

/** The devices of a machine, as JSON, to remember between two attestations. */
export type DmState = {
  readonly devices: readonly (readonly [key: string, device: Device])[];
  readonly pending?: Pending;
};

export const NO_DEVICES: DmState = { devices: [] };

/** A text shorter than this was not cut: the kernel's buffer has 4,096 bytes, and no target needs nearly as many. */
const SHORTEST_CUT = 1024;
const MOST_CUTS = 256;

/** Follows the devices of one machine through its events, in their order. */
export class DeviceMapper {
  readonly #policy: DmPolicy;
  readonly #devices: Map<string, Device>;
  #pending: Pending | undefined;

  constructor(policy: DmPolicy, state: DmState) {
    this.#policy = policy;
    this.#devices = new Map(state.devices);
    this.#pending = state.pending;
  }

  state(): DmState {
    return { devices: [...this.#devices], ...(this.#pending && { pending: this.#pending }) };
  }

  /** Judges one event and takes it in. `entryDigest` is `algorithm:hex` of the entry, which was compared with `buffer`. */
  judge(name: DmEventName, buffer: Uint8Array, entryDigest: string): readonly DmFinding[] {
    const parsed = parseDmEvent(name, buffer);
    if (!parsed.ok) return [found('parsing_failed', parsed.problem)];
    const event = parsed.value;
    const findings: DmFinding[] = [];
    if (this.#pending !== undefined && (name !== 'dm_table_load' || this.#key(event.device) !== this.#pending.key)) {
      findings.push(found('num_targets_mismatch', `the table of ${shown(this.#pending.key)} is not complete`));
      this.#pending = undefined;
    }
    return [...findings, ...this.#take(event, Buffer.from(buffer).toString('latin1'), entryDigest)];
  }

  /** What is wrong with the devices when no event is missing. */
  judgeState(): readonly DmFinding[] {
    const findings: DmFinding[] = [];
    for (const [key, { valid, rule }] of this.#devices) {
      if (!valid) findings.push(found('device_invalid_state', `${shown(key)} of rule ${rule} was never resumed`));
    }
    if (this.#pending !== undefined) {
      findings.push(found('device_invalid_state', `the table of ${shown(this.#pending.key)} is not complete`));
    }
    const used = new Set([...this.#devices.values()].map(({ rule }) => rule));
    for (const { name, required } of this.#policy.rules) {
      if (required && !used.has(name)) findings.push(found('required_policy_not_in_use', `no device has rule ${name}`));
    }
    return findings;
  }

  #take(event: DmEvent, text: string, entryDigest: string): readonly DmFinding[] {
    const key = this.#key(event.device);
    if (event.event === 'dm_table_load') return this.#load(key, event, text, entryDigest);
    const device = this.#devices.get(key);
    const rule = device && this.#policy.rules.find(({ name }) => name === device.rule);
    if (device === undefined || rule === undefined) {
      return [found(BEFORE_TABLE_LOAD[event.event], `no table was loaded for ${shown(key)}`)];
    }
    switch (event.event) {
      case 'dm_device_resume': {
        if (device.active) return [found('already_active', `${shown(key)} is active already`)];
        if (event.tableHash === undefined || !device.hashes.includes(event.tableHash)) {
          const actual = event.tableHash ?? 'no table';
          return [found('active_table_mismatch', `${shown(key)} resumes ${actual}, loaded was ${device.hashes[0]}`)];
        }
        this.#devices.set(key, { ...device, active: true, valid: true });
        return [];
      }
      case 'dm_device_remove':
        if (!rule.allowRemoval) return [found('device_removed', `rule ${rule.name} does not allow to remove it`)];
        this.#devices.delete(key);
        return [];
      case 'dm_table_clear':
        return rule.allowClear ? [] : [found('table_cleared', `rule ${rule.name} does not allow to clear its table`)];
      case 'dm_device_rename':
        return this.#rename(key, device, rule, event);
      case 'dm_target_update':
        return event.targets.flatMap((target) => judgeTarget(target, rule.targets[targetIndex(target)]));
    }
  }

  #load(key: string, event: DmEvent, text: string, entryDigest: string): readonly DmFinding[] {
    const { device: metadata, targets } = event;
    const known = this.#devices.get(key);
    const earlier = this.#pending;
    this.#pending = undefined;
    const reload = this.#policy.rules.find(({ name }) => name === known?.rule);
    if (known !== undefined && reload?.allowMultipleLoads !== true && earlier === undefined) {
      return [found('multiple_table_loads', `a table of ${shown(key)} was loaded already`)];
    }
    const rule = this.#policy.rules.find((one) => matchesReference(one.metadata[this.#policy.matchOn], key));
    if (rule === undefined) return [found('no_matching_policy', `no rule is for ${shown(key)}`)];
    for (const name of DM_METADATA) {
      const value = metadata.get(name);
      if (matchesReference(rule.metadata[name], value)) continue;
      return [
        found('invalid_entry', `${name} is ${shown(value ?? '')}, wanted is ${referenceText(rule.metadata[name])}`),
      ];
    }

    const first = earlier?.targets ?? 0;
    const texts = [...(earlier?.texts ?? []), text];
    const count = first + targets.length;
    const announced = metadata.get('num_targets') ?? '';
    const wanted = rule.targets.length;
    if (Number(announced) !== wanted) {
      return [found('invalid_entry', `num_targets is ${shown(announced)}, wanted is ${wanted}`)];
    }
    if (count > wanted || (count < wanted && (text.length < SHORTEST_CUT || texts.length > MOST_CUTS))) {
      return [found('num_targets_mismatch', `${count} of ${wanted} targets were loaded`)];
    }
    const findings = targets.flatMap((target, i) => judgeTarget(target, rule.targets[first + i]));
    if (count < wanted) {
      this.#pending = { key, texts, targets: count };
      return findings;
    }
    // A table in one piece has the entry's digest; one in several that of all pieces, which the kernel takes by itself.
    const whole = `sha256:${digest('sha256', Buffer.from(texts.join(''), 'latin1')).toString('hex')}`;
    const hashes = texts.length === 1 ? [...new Set([entryDigest, whole])] : [whole];
    // Recorded even if a target is wrong, so that later events of the device are judged too.
    this.#devices.set(key, { rule: rule.name, active: false, valid: !rule.deviceResumeRequired, hashes });
    return findings;
  }

  #rename(key: string, device: Device, rule: DmRule, event: DmEvent): readonly DmFinding[] {
    const { newName = '', newUuid = '' } = event;
    const allowed = (reference: DmReference | undefined, value: string) =>
      reference !== undefined && matchesReference(reference, value);
    const findings: DmFinding[] = [];
    if (newName !== event.device.get('name') && !allowed(rule.validName, newName)) {
      findings.push(found('new_name_invalid', `${shown(newName)} is not allowed by rule ${rule.name}`));
    }
    if (newUuid !== event.device.get('uuid') && !allowed(rule.validUuid, newUuid)) {
      findings.push(found('new_uuid_invalid', `${shown(newUuid)} is not allowed by rule ${rule.name}`));
    }
    if (findings.length > 0) return findings;
    const newKey = this.#policy.matchOn === 'name' ? newName : newUuid;
    if (newKey !== key && this.#devices.has(newKey)) {
      return [found('multiple_table_loads', `there is a device ${shown(newKey)} already`)];
    }
    this.#devices.delete(key);
    this.#devices.set(newKey, device);
    return [];
  }

  #key(device: DmValues): string {
    return device.get(this.#policy.matchOn) ?? '';
  }
}

const BEFORE_TABLE_LOAD = {
  dm_device_resume: 'resume_before_table_load',
  dm_device_remove: 'remove_before_table_load',
  dm_table_clear: 'clear_before_table_load',
  dm_device_rename: 'rename_before_table_load',
  dm_target_update: 'update_before_table_load',
} as const satisfies { readonly [event in Exclude<DmEventName, 'dm_table_load'>]: DmProblem };

const targetIndex = (target: DmValues): number => Number(target.get('target_index'));

function judgeTarget(target: DmValues, rule: ReadonlyMap<string, DmReference> | undefined): readonly DmFinding[] {
  const index = target.get('target_index');
  if (rule === undefined) return [found('target_data_mismatch', `the rule has no target ${index}`)];
  const findings = [...rule].flatMap(([name, reference]): DmFinding[] => {
    const value = target.get(name);
    if (value === undefined) return [found('target_attribute_not_found', `target ${index} has no ${name}`)];
    if (matchesReference(reference, value)) return [];
    const detail = `${name} of target ${index} is ${shown(value)}, wanted is ${referenceText(reference)}`;
    return [found('target_data_mismatch', detail)];
  });
  const isOther = findings.some(({ problem }) => problem === 'target_data_mismatch');
  return isOther ? [...findings, found('target_data_invalid', `target ${index} is not as its rule`)] : findings;
}

const found = (problem: DmProblem, detail: string): DmFinding => ({ problem, detail });

const shown = (text: string): string => `'${showName(text.slice(0, 120))}'`;

function referenceText(reference: DmReference): string {
  switch (reference.kind) {
    case 'any':
      return 'anything';
    case 'pattern':
      return shown(reference.pattern);
    default:
      return String(reference.value);
  }
}
