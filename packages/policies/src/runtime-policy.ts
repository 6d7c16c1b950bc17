import { digest, type HashAlgorithm } from '@keylime/core/digest';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { runSteps, type Steps } from '@keylime/core/steps';
import { EMPTY_KEYRING, type Keyring, parseKeyring } from '@keylime/ima/keyring';
import type { DigestMap } from './digest-map.ts';
import { type DmPolicy, decodeDmPolicy } from './dm-policy.ts';
import { isEnvelope, parseEnvelope } from './dsse.ts';
import { compileExcludes, type Excludes } from './excludes.ts';
import { type StringTable, StringTableBuilder } from './string-table.ts';

/** Reference values for a measurement list, indexed for matching. Immutable: shared by all who are judged by it. */
export type RuntimePolicy = {
  /** SHA-256 of the text it was decoded from, lower-case hex. */
  readonly checksum: string;
  readonly version: number;
  /** 0 unknown, 1 empty, 2 converted from an older version, 3 made by a tool. Says nothing about the content. */
  readonly generator: number;
  readonly digests: DigestMap;
  readonly excludes: Excludes;
  readonly keyrings: DigestMap;
  readonly buffers: DigestMap;
  /** Keyrings whose keys are accepted without being learned; `*` stands for all. */
  readonly ignoredKeyrings: ReadonlySet<string>;
  /** Algorithm of the template hash column. */
  readonly logHashAlgorithm: HashAlgorithm;
  readonly dmPolicy: DmPolicy | null;
  /** Keys for signatures of files, unless an enrolment names others. */
  readonly verificationKeys: Keyring;
  /** What is not large, as the text of a policy. */
  readonly rest: string;
  /** Name and version of the package that a digest came from, by the digest; empty where the policy does not say. */
  readonly packages: StringTable;
};

/** What is wrong with a policy. `path` leads to the value; `message` is worded like a JSON schema validator's. */
export type PolicyProblem = {
  readonly kind: 'not_json' | 'signed' | 'schema' | 'exclude';
  readonly path: readonly (string | number)[];
  readonly message: string;
};

/** The policy, or up to 100 things that are wrong with its text. */
export type DecodedPolicy = Parsed<RuntimePolicy, NonEmpty<PolicyProblem>>;

const MAX_PROBLEMS = 100;
const NAMES_PER_STEP = 2048;
const REQUIRED = ['meta', 'release', 'digests', 'excludes', 'keyrings', 'ima', 'ima-buf', 'verification-keys'];
const LOG_HASH_ALGORITHMS: readonly HashAlgorithm[] = ['sha1', 'sha256', 'sha384', 'sha512'];
const DIGEST = /^[0-9a-f]{40,128}$/;

/** Name of a policy's content: SHA-256 of the text exactly as it was uploaded, lower-case hex. */
export const runtimePolicyChecksum = (text: string): string => digest('sha256', Buffer.from(text)).toString('hex');

/** The policy that accepts nothing, as the tools write it. */
export const EMPTY_RUNTIME_POLICY_TEXT =
  '{"meta": {"version": 1, "generator": 1}, "release": 0, "digests": {}, "excludes": [], "keyrings": {}, ' +
  '"ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}';

/**
 * Decodes and indexes the JSON text of a runtime policy (schema version 1; unknown members are allowed). Reports up to 100
 * problems, a refused exclude pattern among them. A signed policy (DSSE envelope) must be opened first: dsse.ts.
 */
export function decodeRuntimePolicy(text: string): DecodedPolicy {
  const json = parseJson(text);
  if (isEnvelope(json)) {
    const message = 'this is a signed policy (DSSE envelope): verify its signature and take the policy out of it first';
    return bad([{ kind: 'signed', path: [], message }]);
  }
  return runSteps(decodeJson(json, text));
}

/**
 * The same for a policy as it is stored, which may be in its envelope: whoever stored it looked at the signature. The
 * checksum is that of the whole text.
 */
export const decodeStoredPolicy = (text: string): DecodedPolicy => runSteps(decodeStoredPolicyInSteps(text));

/**
 * The same in steps of a few thousand names, between which a service can do other work; only the first, in which the JSON is
 * parsed, is longer the longer the text is. `json` is that of `text`, if it was parsed already.
 */
export function* decodeStoredPolicyInSteps(text: string, json = parseJson(text)): Steps<DecodedPolicy> {
  if (!isEnvelope(json)) return yield* decodeJson(json, text);
  const envelope = parseEnvelope(text);
  if (!envelope.ok) return bad([{ kind: 'signed', path: [], message: `DSSE envelope: ${envelope.problem}` }]);
  return yield* decodeJson(parseJson(envelope.value.payload.toString('utf8')), text);
}

function* decodeJson(json: Json | undefined, text: string): Steps<DecodedPolicy> {
  yield;
  if (json === undefined) return bad([{ kind: 'not_json', path: [], message: 'Runtime policy is not valid JSON!' }]);
  const reader = new SchemaReader();
  const policy = yield* readPolicy(reader, json, text);
  const problems = reader.problems.slice(0, MAX_PROBLEMS);
  if (isNonEmpty(problems)) return bad(problems);
  return policy ? good(policy) : bad([{ kind: 'schema', path: [], message: 'the policy cannot be read' }]);
}

/** Whether a JSON value is a DSSE envelope rather than a policy. */
export const isSignedPolicy = (json: Json): boolean => isEnvelope(json);

function* readPolicy(reader: SchemaReader, json: Json, text: string): Steps<RuntimePolicy | undefined> {
  const root = reader.object(json, [], REQUIRED);
  if (root === undefined) return undefined;
  const meta = reader.object(root.meta, ['meta'], ['version', 'generator']);
  const version = reader.integer(meta?.version, ['meta', 'version'], 0);
  const generator = reader.integer(meta?.generator, ['meta', 'generator'], 0, 3);
  reader.string(meta?.timestamp, ['meta', 'timestamp']);
  reader.integer(root.release, ['release'], 0);
  const digests = yield* reader.digestMap(root.digests, ['digests'], text.length);
  const patterns = reader.strings(root.excludes, ['excludes']);
  const keyrings = yield* reader.digestMap(root.keyrings, ['keyrings']);
  const ima = reader.object(root.ima, ['ima'], ['ignored_keyrings', 'log_hash_alg', 'dm_policy']);
  const ignoredKeyrings = reader.strings(ima?.ignored_keyrings, ['ima', 'ignored_keyrings']);
  const logHashAlgorithm = reader.oneOf(ima?.log_hash_alg, ['ima', 'log_hash_alg'], LOG_HASH_ALGORITHMS);
  const dmPolicy = reader.dmPolicy(ima?.dm_policy, ['ima', 'dm_policy']);
  const buffers = yield* reader.digestMap(root['ima-buf'], ['ima-buf']);
  const keyringText = reader.string(root['verification-keys'], ['verification-keys']);
  const verificationKeys = keyringText === undefined ? undefined : reader.keyring(keyringText, ['verification-keys']);
  const packages = yield* reader.packages(root.packages, ['packages']);
  const excludes = reader.excludes(patterns ?? [], ['excludes']);
  if (version === undefined || generator === undefined || excludes === undefined) return undefined;
  if (digests === undefined || keyrings === undefined || buffers === undefined) return undefined;
  if (ignoredKeyrings === undefined || logHashAlgorithm === undefined || dmPolicy === undefined) return undefined;
  if (verificationKeys === undefined) return undefined;
  return {
    checksum: runtimePolicyChecksum(text),
    version,
    generator,
    digests,
    excludes,
    keyrings,
    buffers,
    ignoredKeyrings: new Set(ignoredKeyrings),
    logHashAlgorithm,
    dmPolicy,
    verificationKeys,
    rest: JSON.stringify({ ...root, digests: {}, packages: {} }),
    packages,
  };
}

type Path = readonly (string | number)[];

/** Reads members of a JSON value and collects what is wrong; an absent member is its object's problem. */
class SchemaReader {
  readonly problems: PolicyProblem[] = [];

  #refuse(path: Path, message: string, kind: PolicyProblem['kind'] = 'schema'): undefined {
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ kind, path, message });
    return undefined;
  }

  object(
    value: Json | undefined,
    path: Path,
    required: readonly string[],
  ): { readonly [key: string]: Json } | undefined {
    if (value === undefined) return undefined;
    if (!isJsonObject(value)) return this.#refuse(path, `${shown(value)} is not of type 'object'`);
    for (const key of required) if (!Object.hasOwn(value, key)) this.#refuse(path, `'${key}' is a required property`);
    return value;
  }

  integer(value: Json | undefined, path: Path, min: number, max = Number.POSITIVE_INFINITY): number | undefined {
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value))
      return this.#refuse(path, `${shown(value)} is not of type 'integer'`);
    if (value < min) return this.#refuse(path, `${value} is less than the minimum of ${min}`);
    return value <= max ? value : this.#refuse(path, `${value} is greater than the maximum of ${max}`);
  }

  string(value: Json | undefined, path: Path): string | undefined {
    if (value === undefined || typeof value === 'string') return value;
    return this.#refuse(path, `${shown(value)} is not of type 'string'`);
  }

  array(value: Json | undefined, path: Path): readonly Json[] | undefined {
    if (value === undefined || Array.isArray(value)) return value;
    return this.#refuse(path, `${shown(value)} is not of type 'array'`);
  }

  strings(value: Json | undefined, path: Path): readonly string[] | undefined {
    return this.array(value, path)?.map((item, i) => this.string(item, [...path, i]) ?? '');
  }

  oneOf<T extends string>(value: Json | undefined, path: Path, allowed: readonly T[]): T | undefined {
    const text = this.string(value, path);
    const found = allowed.find((item) => item === text);
    if (text === undefined || found !== undefined) return found;
    return this.#refuse(path, `${shown(text)} is not one of [${allowed.map((item) => `'${item}'`).join(', ')}]`);
  }

  /** `bytes`: about as many as there are in it. */
  *digestMap(value: Json | undefined, path: Path, bytes?: number): Steps<DigestMap | undefined> {
    const object = this.object(value, path, []);
    if (object === undefined) return undefined;
    const builder = new StringTableBuilder(bytes);
    let count = 0;
    for (const name in object) {
      builder.add(name, this.#digests(object[name], path, name));
      if (++count % NAMES_PER_STEP === 0) yield;
    }
    return yield* builder.finish();
  }

  #digests(value: Json | undefined, path: Path, name: string): readonly string[] {
    if (Array.isArray(value) && value.length > 0 && value.every(isPolicyDigest)) return value;
    const list = this.array(value, [...path, name]) ?? [];
    if (Array.isArray(value) && list.length === 0) this.#refuse([...path, name], '[] should be non-empty');
    return list.map((item, i) => this.#digest(item, path, name, i));
  }

  #digest(value: Json, path: Path, name: string, i: number): string {
    if (isPolicyDigest(value)) return value;
    if (this.string(value, [...path, name, i]) !== undefined) {
      this.#refuse([...path, name, i], `${shown(value)} does not match '^[0-9a-f]{40,128}$'`);
    }
    return '';
  }

  keyring(text: string, path: Path): Keyring {
    if (text === '') return EMPTY_KEYRING;
    let json = parseJson(text);
    // Older tools put the JSON text of a keyring into a JSON string once more.
    if (typeof json === 'string') json = parseJson(json);
    const before = this.problems.length;
    if (json === undefined) this.#refuse(path, 'is not the JSON text of a keyring');
    const object = this.object(json, path, ['keyids', 'pubkeys']);
    for (const [i, id] of (this.array(object?.keyids, [...path, 'keyids']) ?? []).entries()) {
      this.integer(id, [...path, 'keyids', i], 0);
    }
    this.strings(object?.pubkeys, [...path, 'pubkeys']);
    const keyring = this.problems.length > before ? undefined : parseKeyring(text);
    if (keyring?.ok === false) this.#refuse(path, keyring.problem.message);
    return keyring?.ok ? keyring.value : EMPTY_KEYRING;
  }

  dmPolicy(value: Json | undefined, path: Path): DmPolicy | null | undefined {
    if (value === null || value === undefined) return value;
    if (this.object(value, path, []) === undefined) return undefined;
    return decodeDmPolicy(value, (problem) => this.#refuse([...path, ...problem.path], problem.message));
  }

  /** Digest to `name version`; a member of our own, which other tools pass over. */
  *packages(value: Json | undefined, path: Path): Steps<StringTable> {
    const object = this.object(value, path, []);
    const builder = new StringTableBuilder();
    let count = 0;
    for (const hex in object) {
      builder.add(hex, [this.string(object[hex], [...path, hex]) ?? '']);
      if (++count % NAMES_PER_STEP === 0) yield;
    }
    return yield* builder.finish();
  }

  excludes(patterns: readonly string[], path: Path): Excludes | undefined {
    const compiled = compileExcludes(patterns);
    if (compiled.ok) return compiled.value;
    for (const { index, message } of compiled.problem) {
      const pattern = index === undefined ? 'excludes' : `exclude pattern ${index} ${shown(patterns[index] ?? '')}`;
      this.#refuse(index === undefined ? path : [...path, index], `${pattern}: ${message}`, 'exclude');
    }
    return undefined;
  }
}

/** Whether a policy can hold it: lower-case hex of 20 to 64 bytes. */
export const isPolicyDigest = (value: unknown): value is string => typeof value === 'string' && DIGEST.test(value);

/** A value as validators of the existing services print it, cut short. */
function shown(value: Json): string {
  const text =
    typeof value === 'string'
      ? `'${value}'`
      : value === null
        ? 'None'
        : value === true
          ? 'True'
          : value === false
            ? 'False'
            : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}
