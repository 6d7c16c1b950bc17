import assert from 'node:assert/strict';
import { digest } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import type { LyingAgent } from '@keylime/testing/lying-agent';

/** What a kernel records: the line in the list, and what it extends the SHA-256 bank with. */
export type KernelRecord = { readonly line: string; readonly extend: Buffer };

/** A line of these fields with the right template hash: the template's name, and what comes after it. */
export function recorded(fields: string): KernelRecord {
  const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok, fields);
  const input = parsed.value.templateInput;
  return { line: `10 ${digest('sha1', input).toString('hex')} ${fields}\n`, extend: digest('sha256', input) };
}

/** A buffer as the kernel records it. */
export const recordedBuffer = (name: string, buffer: Buffer): KernelRecord =>
  recorded(`ima-buf sha256:${digest('sha256', buffer).toString('hex')} ${name} ${buffer.toString('hex')}`);

/** The same record shown under other fields: the hash is that of the bytes, whatever they are called. */
export const shownAs = ({ line, extend }: KernelRecord, fields: string): KernelRecord => ({
  line: `${line.slice(0, 'PC '.length + 40)} ${fields}\n`,
  extend,
});

/** Has the machine measure these. */
export const measure = ({ machine }: LyingAgent, ...records: readonly KernelRecord[]): void => {
  for (const { line, extend } of records) machine.append(line, extend);
};
