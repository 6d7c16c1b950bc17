import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import fc from 'fast-check';
import { appraiseRuntimeIntegrity } from './runtime-integrity.ts';

/** Names as a kernel prints them: bytes, of which no line ends and no field ends badly. */
const name = fc
  .oneof(
    fc
      .constantFrom('/a', '/a b', '/a  b', '/é', '/\ufeff', '/\ufffd', '/a\\n', '10 x ima-ng sha256:00 /a')
      .map(Buffer.from),
    fc
      .constantFrom('c3', 'c3a9', 'eda080', 'ff', 'efbfbd', 'c0af', 'f09f9491', 'f09f94')
      .map((hex) => Buffer.from(`2f${hex}`, 'hex')),
    fc.uint8Array({ minLength: 1, maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
  )
  .map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 0x0a && byte !== 0)))
  .filter((bytes) => bytes.length > 0);
const hex = fc
  .tuple(fc.constantFrom('aa', 'bb', 'ab'), fc.constantFrom(20, 32, 48))
  .map(([byte, size]) => byte.repeat(size));
const file = fc.record({ name, hex, signed: fc.boolean() });

function lineOf({ name, hex, signed }: { name: Buffer; hex: string; signed: boolean }) {
  const algorithm = { 40: 'sha1', 64: 'sha256', 96: 'sha384' }[hex.length];
  const fields = Buffer.concat([
    Buffer.from(` ${signed ? 'ima-sig' : 'ima-ng'} ${algorithm}:${hex} `),
    name,
    Buffer.from(signed ? ' ' : ''),
  ]);
  const parsed = parseImaLine(Buffer.concat([Buffer.from(`10 ${'1'.repeat(40)}`), fields]));
  if (!parsed.ok) return undefined;
  const input = parsed.value.templateInput;
  return { line: Buffer.concat([Buffer.from(`10 ${digest('sha1', input).toString('hex')}`), fields]), input };
}

test('files that are looked for as bytes are judged as those that are looked for by name', () => {
  fc.assert(
    fc.property(fc.array(file, { maxLength: 12 }), fc.array(file, { maxLength: 12 }), (listed, others) => {
      const digests: Record<string, string[]> = {};
      for (const one of listed) {
        // What a tool writes of the bytes, and what JSON makes of them elsewhere.
        for (const text of [decodeUtf8(one.name), one.name.toString('latin1')]) {
          Object.defineProperty(digests, text, {
            value: [...(Object.hasOwn(digests, text) ? (digests[text] ?? []) : []), one.hex],
            enumerable: true,
            configurable: true,
          });
        }
      }
      const policy = decodeRuntimePolicy(JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests }));
      assert.ok(policy.ok);
      const lines = [...listed, ...others].flatMap((one) => lineOf(one) ?? []);
      const list = Buffer.concat(lines.flatMap(({ line }) => [line, Buffer.from('\n')]));
      const judged = (bank: HashAlgorithm) => {
        const runningPcr = Buffer.alloc(digestSize(bank), 7);
        const quotedPcr = lines.reduce<Buffer>((pcr, { input }) => extend(bank, pcr, digest(bank, input)), runningPcr);
        const found = appraiseRuntimeIntegrity({
          list,
          firstEntry: 5,
          bank,
          runningPcr,
          quotedPcr,
          policy: policy.value,
          violations: 'fail',
        });
        return { failures: found.failures, certified: found.certifiedEntries };
      };
      // Only lists of SHA-256 banks are read the fast way.
      assert.deepEqual(judged('sha256'), judged('sha384'));
    }),
    { numRuns: Number(process.env.RUNS ?? 300) },
  );
});
