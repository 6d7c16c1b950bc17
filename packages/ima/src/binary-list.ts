import { DecodeError } from '@keylime/core/codec';
import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { type ImaFieldId, templateFields } from './template-fields.ts';

const LONGEST_TEMPLATE_NAME = 255;
/** The kernel's own limit is far below: names, signatures and buffers of some kilobytes. */
const LONGEST_TEMPLATE_DATA = 1 << 20;
/** Bytes of the digest field of template `ima`. */
const IMA_DIGEST_BYTES = 20;

/** How a binary list is encoded; the kernel writes its own byte order, unless it was told `ima_canonical_fmt`. */
export type BinaryListFormat = {
  /** Algorithm of the template hash: SHA-1 unless the name of the file ends in another. */
  readonly logHashAlgorithm?: HashAlgorithm;
  readonly bigEndian?: boolean;
};

/** The algorithms of the kernel's files, `binary_runtime_measurements_sha256` and so on. */
const LOG_HASH_ALGORITHMS: readonly HashAlgorithm[] = ['sha1', 'sha256', 'sha384', 'sha512', 'sm3_256'];
/** What precedes the template hash. */
const PCR_BYTES = 4;

/**
 * The format of a binary list, by its first record: what stands behind the PCR and the template hash is the name of a template
 * for one byte order and one size of hash only. `undefined` for what is no binary list, an ASCII list among others.
 */
export function detectBinaryList(list: Uint8Array): BinaryListFormat | undefined {
  for (const bigEndian of [false, true]) {
    for (const logHashAlgorithm of LOG_HASH_ALGORITHMS) {
      const reader = new Reader(list, bigEndian);
      try {
        reader.bytes(PCR_BYTES + digestSize(logHashAlgorithm));
        const name = reader.bytes(reader.size(LONGEST_TEMPLATE_NAME)).toString('latin1');
        if (templateFields(name) !== undefined) return { logHashAlgorithm, bigEndian };
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
      }
    }
  }
  return undefined;
}

/**
 * The lines of `ascii_runtime_measurements` that a kernel would print for `binary_runtime_measurements`, without their line
 * feeds. Names stay as bytes, so that a name with a line feed, which the ASCII form cannot carry, gives a line that holds
 * one. Source: Linux security/integrity/ima/ima_fs.c `ima_measurements_show`, `ima_ascii_measurements_show`.
 * @throws DecodeError with the offset, where the list is cut short or not a list.
 */
export function* decodeBinaryList(list: Uint8Array, format: BinaryListFormat = {}): Generator<Buffer> {
  const { logHashAlgorithm = 'sha1' } = format;
  const reader = new Reader(list, format.bigEndian ?? false);
  for (let index = 0; !reader.isAtEnd(); index++) {
    reader.path = `entry[${index}]`;
    const pcr = reader.u32();
    const hash = reader.bytes(digestSize(logHashAlgorithm));
    const template = reader.bytes(reader.size(LONGEST_TEMPLATE_NAME)).toString('latin1');
    const ids = templateFields(template);
    if (ids === undefined) throw reader.error(`template ${JSON.stringify(template)} is unknown`);
    const fields = template === 'ima' ? readIma(reader) : readFields(reader, ids);
    const head = Buffer.from(`${String(pcr).padStart(2)} ${hash.toString('hex')} ${template}`, 'latin1');
    yield Buffer.concat([head, ...fields.flatMap((field) => [SPACE, field])]);
  }
}

const SPACE = Buffer.from(' ');

/** Digest and name without lengths of their own, and without the padding that is hashed. */
function readIma(reader: Reader): readonly Buffer[] {
  const digest = reader.bytes(IMA_DIGEST_BYTES);
  const name = reader.bytes(reader.size(LONGEST_TEMPLATE_NAME));
  return [Buffer.from(digest.toString('hex')), name];
}

function readFields(reader: Reader, ids: readonly ImaFieldId[]): readonly Buffer[] {
  const end = reader.size(LONGEST_TEMPLATE_DATA) + reader.offset;
  const fields = ids.map((id) => printed(id, reader.bytes(reader.size(LONGEST_TEMPLATE_DATA)), reader));
  if (reader.offset !== end) throw reader.error(`template data ends at ${end}, its fields at ${reader.offset}`);
  return fields;
}

/** A field as the ASCII list prints it. */
function printed(id: ImaFieldId, data: Buffer, reader: Reader): Buffer {
  switch (id) {
    case 'd-ng':
    case 'd-ngv2':
    case 'd-modsig': {
      if (data.length === 0 && id === 'd-modsig') return data;
      const nul = data.indexOf(0);
      if (nul < 1) throw reader.error(`${id} names no algorithm`);
      return Buffer.from(data.toString('latin1', 0, nul) + data.toString('hex', nul + 1));
    }
    case 'n':
    case 'n-ng':
    case 'xattrnames': {
      if (data.length === 0) return data;
      if (data.indexOf(0) !== data.length - 1) throw reader.error(`${id} does not end with its only NUL`);
      return data.subarray(0, -1);
    }
    case 'iuid':
    case 'igid':
    case 'imode': {
      if (data.length === 0) return data;
      if (data.length !== (id === 'imode' ? 2 : 4)) throw reader.error(`${id} has ${data.length} bytes`);
      return Buffer.from(String(reader.number(data)));
    }
    default:
      return Buffer.from(data.toString('hex'));
  }
}

class Reader {
  readonly #list: Buffer;
  readonly #bigEndian: boolean;
  offset = 0;
  path = '';

  constructor(list: Uint8Array, bigEndian: boolean) {
    this.#list = Buffer.from(list.buffer, list.byteOffset, list.length);
    this.#bigEndian = bigEndian;
  }

  isAtEnd(): boolean {
    return this.offset === this.#list.length;
  }

  error(problem: string): DecodeError {
    return new DecodeError(this.path, this.offset, problem);
  }

  bytes(size: number): Buffer {
    const left = this.#list.length - this.offset;
    if (size > left) throw this.error(`${size} bytes wanted, ${left} left`);
    this.offset += size;
    return this.#list.subarray(this.offset - size, this.offset);
  }

  u32(): number {
    return this.number(this.bytes(4));
  }

  /** A length, bounded before anything is done with it. */
  size(most: number): number {
    const size = this.u32();
    if (size > most) throw this.error(`length ${size} is more than ${most}`);
    return size;
  }

  number(bytes: Buffer): number {
    return this.#bigEndian ? bytes.readUIntBE(0, bytes.length) : bytes.readUIntLE(0, bytes.length);
  }
}
