import assert from 'node:assert/strict';
import { digest, extend } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import { appraiseRuntimeIntegrity, type RuntimeIntegrity, type RuntimeIntegrityEvidence } from './runtime-integrity.ts';

/** SHA-256 of a file of one line. */
export const sha256 = (content: string | Uint8Array): string => digest('sha256', Buffer.from(content)).toString('hex');

export const BOOT = sha256('boot');

/** A policy that accepts `BOOT` as boot aggregate, and what `changes` say. */
export function policyWith(changes: Record<string, unknown> = {}): RuntimePolicy {
  const { digests = {}, ima = {}, ...more } = changes as { digests?: object; ima?: object };
  const empty = JSON.parse(EMPTY_RUNTIME_POLICY_TEXT);
  const text = JSON.stringify({
    ...empty,
    ...more,
    digests: { boot_aggregate: [BOOT], ...digests },
    ima: { ...empty.ima, ...ima },
  });
  const decoded = decodeRuntimePolicy(text);
  assert.ok(decoded.ok, JSON.stringify(decoded));
  return decoded.value;
}

/** A line with the right template hash for its fields. */
export function lineOf(fields: string): string {
  const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok, fields);
  return `10 ${digest('sha1', parsed.value.templateInput).toString('hex')} ${fields}`;
}

/** A line of `ima-buf` with the right digest. */
export const bufferLine = (name: string, buffer: Uint8Array | string): string =>
  lineOf(`ima-buf sha256:${sha256(buffer)} ${name} ${Buffer.from(buffer).toString('hex')}`);

export const BOOT_LINE = lineOf(`ima-ng sha256:${BOOT} boot_aggregate`);

/** PCR 10 after what a kernel would have extended for the lines. */
export function pcrAfter(lines: readonly string[], start: Uint8Array = new Uint8Array(32)): Buffer {
  return lines.reduce<Buffer>((value, text) => {
    const parsed = parseImaLine(text);
    if (!parsed.ok) return value;
    const { violation, templateInput } = parsed.value;
    return extend('sha256', value, violation ? Buffer.alloc(32, 0xff) : digest('sha256', templateInput));
  }, Buffer.from(start));
}

/** Appraises lines that the quote covers, unless `more` says otherwise. */
export const appraiseLines = (
  lines: readonly string[],
  more: Partial<RuntimeIntegrityEvidence> = {},
): RuntimeIntegrity =>
  appraiseRuntimeIntegrity({
    list: lines.map((text) => `${text}\n`).join(''),
    firstEntry: 0,
    bank: 'sha256',
    quotedPcr: pcrAfter(lines, more.runningPcr),
    policy: policyWith(),
    violations: 'fail',
    ...more,
  });

/** `index kind` of every failure, with what a test asks for by name. */
export const kindsOf = ({ failures }: RuntimeIntegrity, detail?: string): readonly string[] =>
  failures.map((failure) => {
    const more = detail === undefined ? undefined : (failure as unknown as Record<string, unknown>)[detail];
    const where = 'index' in failure && failure.index !== undefined ? `${failure.index} ` : '';
    return `${where}${failure.kind}${more === undefined ? '' : ` ${JSON.stringify(more)}`}`;
  });
