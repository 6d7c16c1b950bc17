import { createHash } from 'node:crypto';
import { decodeUtf8 } from '@keylime/ima/list-text';
import type { ByteReader } from '../archive/byte-reader.ts';

/** A header structure of a package: values by tag. Every access is checked against the store. */
type Header = {
  readonly strings: (tag: number) => readonly string[];
  readonly integers: (tag: number) => readonly number[];
  readonly bytes: (tag: number) => Buffer | undefined;
};

/** What the header of an RPM package says; nothing of it is verified but the digest that the package itself has of it. */
export type RpmHeader = {
  readonly name: string;
  /** `EPOCH:VERSION-RELEASE`, without an epoch of 0. */
  readonly version: string;
  /** Regular files with the digests of their content. */
  readonly files: readonly (readonly [path: string, hex: string])[];
  /** What a signature of the header is over. */
  readonly bytes: Buffer;
  /** OpenPGP signature over `bytes`; absent in packages that are not signed, or whose signature covers all of them. */
  readonly signature: Buffer | undefined;
};

/** Source: rpm include/rpm/rpmtag.h. */
const TAG = {
  name: 1000,
  version: 1001,
  release: 1002,
  epoch: 1003,
  fileDigests: 1035,
  dirIndexes: 1116,
  baseNames: 1117,
  dirNames: 1118,
  dsaHeader: 267,
  rsaHeader: 268,
  sha1Header: 269,
  sha256Header: 273,
} as const;

const LEAD_BYTES = 96;
const LEAD_MAGIC = 0xedabeedb;
const HEADER_MAGIC = 0x8eade801;
/** Limits of rpm's own (lib/header.c). */
const MAX_ENTRIES = 0xffff;
const MAX_STORE_BYTES = 256 << 20;
/** Of one tag: many times the files of any package. */
const MAX_ITEMS = 1 << 22;

const TYPE = { int8: 2, int16: 3, int32: 4, int64: 5, string: 6, binary: 7, strings: 8, translated: 9 } as const;
const INTEGER_SIZES: ReadonlyMap<number, number> = new Map([
  [TYPE.int8, 1],
  [TYPE.int16, 2],
  [TYPE.int32, 4],
  [TYPE.int64, 8],
]);

/**
 * Reads an RPM package up to the end of its header. Big-endian. Source: rpm docs/manual/format_v4.md.
 * @throws ToolError `archive_malformed`, also if the header is not what its own digest says
 */
export async function readRpmHeader(reader: ByteReader): Promise<RpmHeader> {
  const lead = await reader.exactly(LEAD_BYTES);
  if (lead.readUInt32BE() !== LEAD_MAGIC) reader.fail('it does not begin like an RPM package');
  const { header: signatures, bytes: signatureBytes } = await readHeader(reader);
  await reader.exactly((8 - (signatureBytes.length % 8)) % 8);
  const { header, bytes } = await readHeader(reader);
  for (const [tag, algorithm] of [
    [TAG.sha256Header, 'sha256'],
    [TAG.sha1Header, 'sha1'],
  ] as const) {
    const [stated] = signatures.strings(tag);
    if (stated !== undefined && stated !== createHash(algorithm).update(bytes).digest('hex')) {
      reader.fail(`the header does not have the ${algorithm} digest that the package says`);
    }
  }
  const [name, version, release] = [TAG.name, TAG.version, TAG.release].map((tag) => header.strings(tag)[0] ?? '');
  if (!name || !version) reader.fail('the header has no name or no version');
  const [epoch = 0] = header.integers(TAG.epoch);
  return {
    name,
    version: `${epoch === 0 ? '' : `${epoch}:`}${version}-${release}`,
    files: filesOf(header, reader),
    bytes,
    signature: signatures.bytes(TAG.rsaHeader) ?? signatures.bytes(TAG.dsaHeader),
  };
}

function filesOf(header: Header, reader: ByteReader): RpmHeader['files'] {
  const baseNames = header.strings(TAG.baseNames);
  const dirNames = header.strings(TAG.dirNames);
  const dirIndexes = header.integers(TAG.dirIndexes);
  const digests = header.strings(TAG.fileDigests);
  if (dirIndexes.length !== baseNames.length || digests.length > baseNames.length) {
    reader.fail('the lists of files in the header are of different lengths');
  }
  return digests.flatMap((hex, i) => {
    const directory = dirNames[dirIndexes[i] ?? -1];
    if (directory === undefined) reader.fail('a file in the header has no directory');
    if (!/^[0-9a-f]*$/.test(hex)) reader.fail('a digest in the header is not hexadecimal');
    // Links and directories have an empty digest, some old ones one of zeros.
    return /^0*$/.test(hex) ? [] : [[`${directory}${baseNames[i]}`, hex] as const];
  });
}

async function readHeader(reader: ByteReader): Promise<{ readonly header: Header; readonly bytes: Buffer }> {
  const intro = Buffer.from(await reader.exactly(16));
  if (intro.readUInt32BE() !== HEADER_MAGIC) reader.fail('a header does not begin with 8eade801');
  const [count, storeBytes] = [intro.readUInt32BE(8), intro.readUInt32BE(12)];
  if (count > MAX_ENTRIES || storeBytes > MAX_STORE_BYTES) reader.fail('a header is too large');
  const body = Buffer.from(await reader.exactly(16 * count + storeBytes));
  const store = body.subarray(16 * count);
  const entries = new Map<number, { readonly type: number; readonly offset: number; readonly count: number }>();
  for (let i = 0; i < count; i++) {
    const at = 16 * i;
    const entry = {
      type: body.readUInt32BE(at + 4),
      offset: body.readUInt32BE(at + 8),
      count: body.readUInt32BE(at + 12),
    };
    if (entry.offset > storeBytes || entry.count > Math.min(storeBytes, MAX_ITEMS))
      reader.fail('an entry of a header leads out of it');
    entries.set(body.readUInt32BE(at), entry);
  }
  const header: Header = {
    strings(tag) {
      const entry = entries.get(tag);
      if (entry === undefined) return [];
      const isOne = entry.type === TYPE.string;
      if (!isOne && entry.type !== TYPE.strings && entry.type !== TYPE.translated) return [];
      const strings: string[] = [];
      let at = entry.offset;
      for (let i = 0; i < (isOne ? 1 : entry.count); i++) {
        const end = store.indexOf(0, at);
        if (end < 0) reader.fail(`the text of tag ${tag} does not end`);
        strings.push(decodeUtf8(store.subarray(at, end)));
        at = end + 1;
      }
      return strings;
    },
    integers(tag) {
      const entry = entries.get(tag);
      const size = INTEGER_SIZES.get(entry?.type ?? 0);
      if (entry === undefined || size === undefined) return [];
      if (entry.offset + size * entry.count > store.length) reader.fail(`the numbers of tag ${tag} do not fit`);
      return Array.from({ length: entry.count }, (_, i) =>
        size === 8
          ? Number(store.readBigUInt64BE(entry.offset + 8 * i))
          : store.readUIntBE(entry.offset + size * i, size),
      );
    },
    bytes(tag) {
      const entry = entries.get(tag);
      if (entry === undefined || entry.type !== TYPE.binary) return undefined;
      if (entry.offset + entry.count > store.length) reader.fail(`the bytes of tag ${tag} do not fit`);
      return store.subarray(entry.offset, entry.offset + entry.count);
    },
  };
  return { header, bytes: Buffer.concat([intro, body]) };
}
