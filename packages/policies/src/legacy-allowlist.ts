import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, isPolicyDigest } from './runtime-policy.ts';

/** A runtime policy as a JSON object, its members in the usual order. It decodes. */
export type RuntimePolicyJson = { readonly [key: string]: Json };

/** A converted policy, and the lines that said nothing. */
export type Converted = { readonly policy: RuntimePolicyJson; readonly skipped: readonly string[] };

export type ConversionOptions = {
  /** Lines of an exclude list, a regular expression each; blank lines and those that begin with `#` count for nothing. */
  readonly excludes?: string | undefined;
  /** `YYYY-MM-DD HH:MM:SS.ffffff`. */
  readonly timestamp: string;
};

const KEYRING = '%keyring:';

/**
 * Converts what earlier versions called an allowlist: lines of `digest path` (a path `%keyring:NAME` is a keyring), or a
 * JSON object with `hashes`. Members that are missing are filled in, and the result is a policy that decodes.
 */
export function convertAllowlist(text: string, options: ConversionOptions): Parsed<Converted, string> {
  const json = parseJson(text);
  return isJsonObject(json) ? convertJson(json, options) : convertLines(text, options);
}

/** Brings a policy of an older version up to date (`generator` 2), and adds excludes to one of any version. */
export function convertRuntimePolicy(text: string, options: ConversionOptions): Parsed<Converted, string> {
  const json = parseJson(text);
  if (!isJsonObject(json)) return bad('it is not a JSON object');
  if (Object.hasOwn(json, 'hashes')) return bad("it has 'hashes', so it is an allowlist and no policy");
  const version = isJsonObject(json.meta) && typeof json.meta.version === 'number' ? json.meta.version : 0;
  const meta = version < 1 ? { version: 1, generator: 2, timestamp: options.timestamp } : (json.meta ?? {});
  return finish({ ...json, meta }, options, []);
}

function convertJson(json: RuntimePolicyJson, options: ConversionOptions): Parsed<Converted, string> {
  if (Object.hasOwn(json, 'digests')) return bad('it is a runtime policy already');
  const { hashes, ...rest } = json;
  if (!isJsonObject(hashes)) return bad("it has neither 'hashes' nor lines of a digest and a path");
  const meta = { version: 1, generator: 3, timestamp: options.timestamp };
  return finish({ ...rest, meta, digests: hashes }, options, []);
}

function convertLines(text: string, options: ConversionOptions): Parsed<Converted, string> {
  const digests = new Map<string, Set<string>>();
  const keyrings = new Map<string, Set<string>>();
  const skipped: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const [, first, path] = /^\s*(\S+)\s+(\S.*?)\s*$/.exec(line) ?? [];
    if (first === undefined || path === undefined || first.startsWith('#')) {
      skipped.push(line);
      continue;
    }
    // Some tools put the algorithm in front, which a policy does not have.
    const digest = first.replace(/^[a-z0-9_-]+:/, '');
    if (!isPolicyDigest(digest))
      return bad(`line ${index + 1} does not begin with a digest in lower-case hex: ${line.slice(0, 100)}`);
    const isKeyring = path.startsWith(KEYRING);
    const map = isKeyring ? keyrings : digests;
    const name = isKeyring ? path.slice(KEYRING.length) : path;
    map.set(name, (map.get(name) ?? new Set()).add(digest));
  }
  if (digests.size + keyrings.size === 0) return bad("it has neither 'hashes' nor lines of a digest and a path");
  const meta = { version: 1, generator: 3, timestamp: options.timestamp };
  return finish({ meta, digests: lists(digests), keyrings: lists(keyrings) }, options, skipped);
}

/** Defined, not assigned: a path may be called `__proto__`. */
const lists = (map: ReadonlyMap<string, ReadonlySet<string>>): { readonly [key: string]: Json } =>
  Object.fromEntries([...map].map(([name, digests]) => [name, [...digests]]));

function finish(
  json: RuntimePolicyJson,
  { excludes }: ConversionOptions,
  skipped: readonly string[],
): Parsed<Converted, string> {
  const empty = parseJson(EMPTY_RUNTIME_POLICY_TEXT) as RuntimePolicyJson;
  // Members of others, such as `packages`, stay where they were.
  const policy: Record<string, Json> = { ...empty, ...json };
  for (const [name, absent] of Object.entries(empty)) {
    const value = json[name];
    // A legacy `ima` object may lack members.
    policy[name] =
      name === 'ima' && isJsonObject(value) ? { ...(absent as RuntimePolicyJson), ...value } : (value ?? absent);
  }
  const old = Array.isArray(policy.excludes) ? policy.excludes : [];
  policy.excludes = [...old, ...excludeLines(excludes ?? '')];
  const decoded = decodeRuntimePolicy(JSON.stringify(policy));
  if (decoded.ok) return good({ policy, skipped });
  const [{ message, path }] = decoded.problem;
  return bad(path.length === 0 ? message : `${message} at ${path.join('.')}`);
}

/** The patterns of an exclude list. */
export const excludeLines = (text: string): readonly string[] =>
  text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'));
