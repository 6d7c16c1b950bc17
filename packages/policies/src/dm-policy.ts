import { isJsonObject, type Json } from '@keylime/core/json';
import { compileExcludes } from './excludes.ts';

/** What a value is compared with: anything, a switch, a number, or a regular expression for all of the text. */
export type DmReference =
  | { readonly kind: 'any' }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'integer'; readonly value: number }
  | { readonly kind: 'pattern'; readonly pattern: string; readonly matches: (text: string) => boolean };

export const DM_METADATA = ['name', 'uuid', 'major', 'minor', 'minor_count'] as const;

/** What one device may be. A part that a rule leaves out allows nothing. */
export type DmRule = {
  readonly name: string;
  /** A device must have been loaded under this rule. */
  readonly required: boolean;
  readonly deviceResumeRequired: boolean;
  readonly allowClear: boolean;
  readonly allowRemoval: boolean;
  readonly allowMultipleLoads: boolean;
  readonly validName: DmReference | undefined;
  readonly validUuid: DmReference | undefined;
  readonly metadata: { readonly [K in (typeof DM_METADATA)[number]]: DmReference };
  /** In the order of the table, as many as it must have. */
  readonly targets: readonly ReadonlyMap<string, DmReference>[];
};

/** Reference values for device-mapper devices; the first rule that matches a device's key is its rule. */
export type DmPolicy = { readonly matchOn: 'name' | 'uuid'; readonly rules: readonly DmRule[] };

/** What is wrong with a dm policy, and where, from the policy object down. */
export type DmPolicyProblem = { readonly path: readonly (string | number)[]; readonly message: string };

/** The members of a policy and of its parts. Any other is a slip of the pen, and what it was meant to demand would not be demanded. */
const MEMBERS = {
  policy: ['version', 'match_on', 'rules'],
  rule: ['required', 'device_resume_required', 'allow_clear', 'device_rename', 'device_remove', 'table_load'],
  device_rename: ['valid_name', 'valid_uuid'],
  device_remove: ['allow_removal'],
  table_load: ['allow_multiple_loads', ...DM_METADATA, 'num_targets', 'targets'],
} as const satisfies Record<string, readonly string[]>;

const ANY: DmReference = { kind: 'any' };
const TRUE: readonly string[] = ['y', 'yes', 't', 'true', 'on', '1'];
const FALSE: readonly string[] = ['n', 'no', 'f', 'false', 'off', '0'];

/** Whether a value of an event is what a rule says; a value that is not there is none that is wanted. */
export function matchesReference(reference: DmReference, value: string | undefined): boolean {
  if (reference.kind === 'any') return true;
  if (value === undefined) return false;
  switch (reference.kind) {
    case 'boolean':
      return (reference.value ? TRUE : FALSE).includes(value.toLowerCase());
    case 'integer':
      return /^-?\d{1,40}$/.test(value) && BigInt(value) === BigInt(reference.value);
    case 'pattern':
      return reference.matches(value);
  }
}

/** Decodes the member `ima.dm_policy` of a runtime policy (version 1); all problems go to `refuse`. */
export function decodeDmPolicy(json: Json, refuse: (problem: DmPolicyProblem) => void): DmPolicy | undefined {
  const reader = new DmReader(refuse);
  const root = reader.known(reader.object(json, []), 'policy', []);
  if (root === undefined) return undefined;
  if (root.version !== 1) reader.refuse(['version'], 'only version 1 is known');
  const matchOn = root.match_on;
  if (matchOn !== 'name' && matchOn !== 'uuid') reader.refuse(['match_on'], "must be 'name' or 'uuid'");
  const rules = Object.entries(reader.object(root.rules, ['rules']) ?? {}).map(([name, rule]) =>
    reader.rule(name, rule),
  );
  return { matchOn: matchOn === 'uuid' ? 'uuid' : 'name', rules: rules.filter((rule) => rule !== undefined) };
}

type Path = DmPolicyProblem['path'];

class DmReader {
  readonly #refuse: (problem: DmPolicyProblem) => void;
  constructor(refuse: (problem: DmPolicyProblem) => void) {
    this.#refuse = refuse;
  }

  refuse(path: Path, message: string): undefined {
    this.#refuse({ path, message });
    return undefined;
  }

  object(value: Json | undefined, path: Path): { readonly [key: string]: Json } | undefined {
    return isJsonObject(value) ? value : this.refuse(path, 'an object is wanted');
  }

  /** The same object, whose members are those of a `kind`. */
  known<T extends { readonly [key: string]: Json } | undefined>(object: T, kind: keyof typeof MEMBERS, path: Path): T {
    const members: readonly string[] = MEMBERS[kind];
    for (const key of Object.keys(object ?? {})) {
      if (!members.includes(key)) this.refuse([...path, key], `is not a member of this object: ${members.join(', ')}`);
    }
    return object;
  }

  rule(name: string, json: Json): DmRule | undefined {
    const path = ['rules', name];
    const rule = this.known(this.object(json, path), 'rule', path);
    if (rule === undefined) return undefined;
    const part = (key: 'table_load' | 'device_rename' | 'device_remove') =>
      rule[key] === undefined ? {} : (this.known(this.object(rule[key], [...path, key]), key, [...path, key]) ?? {});
    const [load, rename, remove] = [part('table_load'), part('device_rename'), part('device_remove')];
    const loadPath = [...path, 'table_load'];
    const targets = this.#targets(load, loadPath);
    const reference = (key: (typeof DM_METADATA)[number]) => this.#reference(load[key] ?? null, [...loadPath, key]);
    return {
      name,
      required: this.#boolean(rule.required, [...path, 'required']),
      deviceResumeRequired: this.#boolean(rule.device_resume_required, [...path, 'device_resume_required']),
      allowClear: this.#boolean(rule.allow_clear, [...path, 'allow_clear']),
      allowRemoval: this.#boolean(remove.allow_removal, [...path, 'device_remove', 'allow_removal']),
      allowMultipleLoads: this.#boolean(load.allow_multiple_loads, [...loadPath, 'allow_multiple_loads']),
      validName: this.#optional(rename.valid_name, [...path, 'device_rename', 'valid_name']),
      validUuid: this.#optional(rename.valid_uuid, [...path, 'device_rename', 'valid_uuid']),
      metadata: {
        name: reference('name'),
        uuid: reference('uuid'),
        major: reference('major'),
        minor: reference('minor'),
        minor_count: reference('minor_count'),
      },
      targets,
    };
  }

  #targets(load: { readonly [key: string]: Json }, path: Path): DmRule['targets'] {
    const { targets, num_targets: count } = load;
    if (!Array.isArray(targets)) return this.refuse([...path, 'targets'], 'a list of targets is wanted') ?? [];
    if (count !== targets.length) {
      this.refuse([...path, 'num_targets'], `must be the number of targets that the rule lists, ${targets.length}`);
    }
    return targets.map((target, i) => {
      const at = [...path, 'targets', i];
      const attributes = Object.entries(this.object(target, at) ?? {});
      return new Map(attributes.map(([key, value]) => [key, this.#reference(value, [...at, key])]));
    });
  }

  #boolean(value: Json | undefined, path: Path): boolean {
    if (value === undefined || typeof value === 'boolean') return value ?? false;
    return this.refuse(path, 'true or false is wanted') ?? false;
  }

  #optional(value: Json | undefined, path: Path): DmReference | undefined {
    return value === undefined ? undefined : this.#reference(value, path);
  }

  #reference(value: Json, path: Path): DmReference {
    if (value === null) return ANY;
    if (typeof value === 'boolean') return { kind: 'boolean', value };
    if (typeof value === 'number' && Number.isSafeInteger(value)) return { kind: 'integer', value };
    if (typeof value !== 'string') {
      return this.refuse(path, 'null, a boolean, an integer or a regular expression is wanted') ?? ANY;
    }
    const [alone, whole] = [compileExcludes([value]), compileExcludes([`(?:${value})\\Z`])];
    // What is no expression by itself could become one that says something else.
    const compiled = alone.ok ? whole : alone;
    if (compiled.ok) return { kind: 'pattern', pattern: value, matches: compiled.value.matches };
    return this.refuse(path, compiled.problem[0].message) ?? ANY;
  }
}
