import { parseBase64, parseHex } from '@keylime/core/base64';
import type { Json } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';

/** Where a value is not as its schema wants it: a JSON pointer (RFC 6901) from the value, empty for the value itself. */
export type SchemaProblem = { readonly pointer: string; readonly problem: string };

/** `value` as its schema says, or the first thing that is wrong with it. */
export function parseBySchema<Schema extends TSchema>(
  schema: Schema,
  value: unknown,
): Parsed<Static<Schema>, SchemaProblem> {
  if (Value.Check(schema, value)) return good(value as Static<Schema>);
  const [first] = Value.Errors(schema, value);
  return bad({ pointer: first?.instancePath ?? '', problem: first?.message ?? 'is malformed' });
}

/** As `parseBySchema`, without members that the schema does not name: what a peer puts beside them is not kept. */
export function parseKnownMembers<Schema extends TSchema>(
  schema: Schema,
  value: unknown,
): Parsed<Static<Schema>, SchemaProblem> {
  const parsed = parseBySchema(schema, value);
  return parsed.ok ? good(Value.Clean(schema, structuredClone(parsed.value)) as Static<Schema>) : parsed;
}

/**
 * Bytes of a binary field: padded base64, else hex with or without `0x` (spec 05 section 2.2). [compat] Hex that happens to
 * be base64 is read as base64.
 */
export const parseBinary = (text: string): Buffer | undefined => parseBase64(text) ?? parseHex(text.replace(/^0x/, ''));

/** A time as the push protocol writes it: ISO 8601 in UTC with six digits of a second and `+00:00`. */
export const pushTime = (unixMs: number): string => new Date(unixMs).toISOString().replace('Z', '000+00:00');

const NAIVE = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?$/;

/** The end of the year 9999: later times have no four digits of a year, and then none at all. */
const LATEST_MS = Date.UTC(10_000, 0) - 1;

/**
 * Milliseconds since 1970 of a time in a message: ISO 8601, without a zone in UTC, or Unix seconds as number or digits;
 * `undefined` for what is no time that `pushTime` can write.
 */
export function parsePushTime(value: Json | undefined): number | undefined {
  const at = millisecondsOf(value);
  return at !== undefined && at <= LATEST_MS ? at : undefined;
}

function millisecondsOf(value: Json | undefined): number | undefined {
  if (typeof value === 'number') return value >= 0 ? Math.trunc(value * 1000) : undefined;
  if (typeof value !== 'string' || value.length > 64) return undefined;
  if (/^\d{1,12}$/.test(value)) return Number(value) * 1000;
  if (!/^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/.test(value)) return undefined;
  const at = Date.parse(NAIVE.test(value) ? `${value}Z` : value);
  return Number.isNaN(at) ? undefined : at;
}
