import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DecodeError } from '@keylime/core/codec';
import fc from 'fast-check';
import { decodeBinaryList } from './binary-list.ts';
import { type ImaEntry, isSignatureShaped, parseImaLine } from './entry.ts';
import { IMA_TEMPLATES, type ImaTemplate } from './template-fields.ts';

/*
 * Whoever changes a list on its way chooses the name of each record's template, but not the bytes that were hashed. A binary
 * list has just these bytes, so the same record under another name is what the ASCII list could be made to say.
 */
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const sized = (data: Uint8Array): Buffer => Buffer.concat([u32(data.length), data]);

/** What a list says of a record with these fields under this name; `undefined` if it can say nothing. */
function entryOf(name: string, fields: Uint8Array): ImaEntry | undefined {
  const record = Buffer.concat([u32(10), Buffer.alloc(20, 1), sized(Buffer.from(name)), sized(fields)]);
  try {
    const [line] = decodeBinaryList(record);
    const parsed = parseImaLine(line ?? '');
    // A name with a line feed, or a field that is printed in another way: not these bytes any more.
    return parsed.ok && Buffer.compare(parsed.value.templateInput, fields) === 0 ? parsed.value : undefined;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

const digestBytes = fc.oneof(
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map((hex) => Buffer.concat([Buffer.from('sha256:\0'), hex])),
  fc.uint8Array({ minLength: 20, maxLength: 20 }).map((hex) => Buffer.concat([Buffer.from('sha1:\0'), hex])),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((hex) => Buffer.concat([Buffer.from('md5:\0'), hex])),
);
const nameBytes = fc
  .constantFrom('/usr/bin/a', '.ima', 'dm_table_load', 'sha256:', '')
  .map((name) => Buffer.from(`${name}\0`));
/** What root can put into attributes and signatures. */
const chosen = fc.oneof(
  digestBytes,
  nameBytes,
  fc.uint8Array({ maxLength: 40 }),
  fc
    .constantFrom('', '30820000', '03020400000001000155', '05020400000001000155', '00000000')
    .map((hex) => Buffer.from(hex, 'hex')),
);
const FIELDS: { readonly [id: string]: fc.Arbitrary<Uint8Array> } = {
  'd-ng': digestBytes,
  'd-ngv2': digestBytes.map((bytes) => Buffer.concat([Buffer.from('ima:'), bytes])),
  'd-modsig': fc.oneof(digestBytes, fc.constant(Buffer.alloc(0))),
  'n-ng': nameBytes,
  xattrnames: nameBytes,
  iuid: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  igid: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  imode: fc.uint8Array({ minLength: 2, maxLength: 2 }),
};

const record = fc
  .constantFrom<ImaTemplate>('ima-ng', 'ima-sig', 'ima-buf', 'ima-ngv2', 'ima-sigv2', 'ima-modsig', 'evm-sig')
  .chain((template) =>
    fc
      .tuple(...IMA_TEMPLATES[template].map((id) => FIELDS[id] ?? chosen))
      .map((fields) => ({ template, fields: Buffer.concat(fields.map(sized)) })),
  );

const ids = [...new Set(Object.values(IMA_TEMPLATES).flat())];
/** Formats with as many fields as the record has, in any order. */
const anyFormat = (count: number) =>
  fc.shuffledSubarray(ids, { minLength: count, maxLength: count }).map((some) => some.join('|'));

test('[property] a record says the same file, or nothing, under whatever name of a template', () => {
  let said = 0;
  fc.assert(
    fc.property(
      record.chain((one) =>
        fc.record({
          one: fc.constant(one),
          name: fc.oneof(
            { weight: 1, arbitrary: fc.constantFrom(...Object.keys(IMA_TEMPLATES)) },
            { weight: 4, arbitrary: anyFormat(IMA_TEMPLATES[one.template].length) },
            { weight: 4, arbitrary: fc.constant(IMA_TEMPLATES[one.template].join('|')) },
          ),
        }),
      ),
      ({ one: { template, fields }, name }) => {
        const honest = entryOf(template, fields);
        const other = entryOf(name, fields);
        if (honest === undefined || other === undefined || name === template) return;
        said++;
        assert.deepEqual([other.path, other.fileDigest], [honest.path, honest.fileDigest], `${template} as ${name}`);
        // A buffer is none any more only where it fails for its signature, or has nothing in it.
        if (honest.buffer !== undefined && other.buffer === undefined && honest.buffer.length > 0) {
          const { signature } = other;
          const begins = [3, 5, 6].includes(honest.buffer[0] ?? 0);
          assert.ok(signature && (begins || !isSignatureShaped(signature)), `${template} as ${name}`);
        }
      },
    ),
    { numRuns: 4000 },
  );
  assert.ok(said > 100, `${said} records were read under another name`);
});
