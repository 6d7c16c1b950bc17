/**
 * Binary codecs: a wire structure is declared once, the declaration gives decoder, encoder and type.
 * Integers are big-endian unless the name says `Le`. Decoded byte strings are views of the input.
 */

/** A malformed structure: `path` names the field, `offset` counts bytes from the start of the input. */
export class DecodeError extends Error {
  readonly code = 'malformed_structure';
  readonly path: string;
  readonly offset: number;
  readonly problem: string;
  constructor(path: string, offset: number, problem: string) {
    super(`${path === '' ? 'structure' : path} at byte ${offset}: ${problem}`);
    this.name = 'DecodeError';
    this.path = path;
    this.offset = offset;
    this.problem = problem;
  }
}

/** The bytes under a decoder and how far it has come. */
export class Reader {
  readonly bytes: Buffer;
  offset: number;
  readonly end: number;
  path: string;
  constructor(bytes: Uint8Array, offset = 0, end = bytes.length, path = '') {
    this.bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
    this.end = end;
    this.path = path;
  }
  fail(problem: string): never {
    throw new DecodeError(this.path, this.offset, problem);
  }
  /** Moves over `size` bytes and tells where they start. */
  take(size: number): number {
    const start = this.offset;
    if (size > this.end - start) this.fail(`${size} bytes wanted, ${this.end - start} left`);
    this.offset = start + size;
    return start;
  }
}

/** The bytes that an encoder has made so far. */
export class Writer {
  readonly parts: Uint8Array[] = [];
  push(part: Uint8Array): void {
    this.parts.push(part);
  }
}

export type Codec<T> = {
  readonly read: (reader: Reader) => T;
  readonly write: (writer: Writer, value: T) => void;
};

/** The type that a codec carries. */
export type Decoded<C> = C extends Codec<infer T> ? T : never;

/**
 * Decodes `bytes`, all of them.
 * @throws DecodeError if the structure is malformed or bytes are left over.
 */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const reader = new Reader(bytes);
  const value = codec.read(reader);
  if (reader.offset !== reader.end) reader.fail(`${reader.end - reader.offset} bytes left over`);
  return value;
}

/** The bytes of `value`. @throws RangeError if a number or a length does not fit its field. */
export function encode<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new Writer();
  codec.write(writer, value);
  return Buffer.concat(writer.parts);
}

function integer(size: 1 | 2 | 4, littleEndian = false): Codec<number> {
  return {
    read: (reader) => {
      const start = reader.take(size);
      return littleEndian ? reader.bytes.readUIntLE(start, size) : reader.bytes.readUIntBE(start, size);
    },
    write: (writer, value) => {
      const bytes = Buffer.alloc(size);
      if (littleEndian) bytes.writeUIntLE(value, 0, size);
      else bytes.writeUIntBE(value, 0, size);
      writer.push(bytes);
    },
  };
}

export const u8 = integer(1);
export const u16 = integer(2);
export const u32 = integer(4);
export const u16le = integer(2, true);
export const u32le = integer(4, true);

export const u64: Codec<bigint> = {
  read: (reader) => reader.bytes.readBigUInt64BE(reader.take(8)),
  write: (writer, value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    writer.push(bytes);
  },
};

export const u64le: Codec<bigint> = {
  read: (reader) => reader.bytes.readBigUInt64LE(reader.take(8)),
  write: (writer, value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    writer.push(bytes);
  },
};

export const i32: Codec<number> = {
  read: (reader) => reader.bytes.readInt32BE(reader.take(4)),
  write: (writer, value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    writer.push(bytes);
  },
};

/** Exactly `size` bytes. */
export const fixedBytes = (size: number): Codec<Buffer> => ({
  read: (reader) => {
    const start = reader.take(size);
    return reader.bytes.subarray(start, start + size);
  },
  write: (writer, value) => {
    if (value.length !== size) throw new RangeError(`${size} bytes wanted, ${value.length} given`);
    writer.push(value);
  },
});

/** Everything to the end of the enclosing structure. */
export const restBytes: Codec<Buffer> = {
  read: (reader) => reader.bytes.subarray(reader.take(reader.end - reader.offset), reader.end),
  write: (writer, value) => writer.push(value),
};

/** A byte string behind its length, at most `max` bytes. */
export const countedBytes = (length: Codec<number>, max: number): Codec<Buffer> => ({
  read: (reader) => {
    const size = length.read(reader);
    if (size > max) reader.fail(`length ${size} is over ${max}`);
    const start = reader.take(size);
    return reader.bytes.subarray(start, start + size);
  },
  write: (writer, value) => {
    if (value.length > max) throw new RangeError(`length ${value.length} is over ${max}`);
    length.write(writer, value.length);
    writer.push(value);
  },
});

/** `inner` behind its length in bytes; `inner` must fill it exactly. */
export const counted = <T>(length: Codec<number>, inner: Codec<T>): Codec<T> => ({
  read: (reader) => {
    const size = length.read(reader);
    const start = reader.take(size);
    const part = new Reader(reader.bytes, start, start + size, reader.path);
    const value = inner.read(part);
    if (part.offset !== part.end) part.fail(`${part.end - part.offset} bytes left over`);
    return value;
  },
  write: (writer, value) => {
    const bytes = encode(inner, value);
    length.write(writer, bytes.length);
    writer.push(bytes);
  },
});

/** `item`s behind their number, at most `max` of them. */
export const list = <T>(count: Codec<number>, item: Codec<T>, max: number): Codec<readonly T[]> => ({
  read: (reader) => {
    const length = count.read(reader);
    if (length > max) reader.fail(`count ${length} is over ${max}`);
    const path = reader.path;
    const items: T[] = [];
    for (let i = 0; i < length; i++) {
      reader.path = `${path}[${i}]`;
      items.push(item.read(reader));
    }
    reader.path = path;
    return items;
  },
  write: (writer, items) => {
    if (items.length > max) throw new RangeError(`count ${items.length} is over ${max}`);
    count.write(writer, items.length);
    for (const one of items) item.write(writer, one);
  },
});

/** An array with room for `capacity` items of `itemSize` bytes, of which `count` are used; the rest is ignored, and zero when written. */
export const slots = <T>(
  count: Codec<number>,
  item: Codec<T>,
  capacity: number,
  itemSize: number,
): Codec<readonly T[]> => {
  const used = list(count, item, capacity);
  return {
    read: (reader) => {
      const items = used.read(reader);
      reader.take((capacity - items.length) * itemSize);
      return items;
    },
    write: (writer, items) => {
      used.write(writer, items);
      writer.push(Buffer.alloc((capacity - items.length) * itemSize));
    },
  };
};

/** A byte string of at most `max` bytes in a place of `capacity`, behind its length; the rest is ignored, and zero when written. */
export const paddedBytes = (length: Codec<number>, max: number, capacity: number): Codec<Buffer> => {
  const used = countedBytes(length, max);
  return {
    read: (reader) => {
      const bytes = used.read(reader);
      reader.take(capacity - bytes.length);
      return bytes;
    },
    write: (writer, value) => {
      used.write(writer, value);
      writer.push(Buffer.alloc(capacity - value.length));
    },
  };
};

/** A field that has one value only. */
export const constant = <T extends number>(codec: Codec<number>, value: T): Codec<T> => ({
  read: (reader) => {
    const start = reader.offset;
    const found = codec.read(reader);
    if (found !== value) {
      throw new DecodeError(reader.path, start, `0x${value.toString(16)} wanted, 0x${found.toString(16)} found`);
    }
    return value;
  },
  write: (writer) => codec.write(writer, value),
});

/** A byte that is 0 or 1 (TPMI_YES_NO). */
export const yesNo: Codec<boolean> = {
  read: (reader) => {
    const value = u8.read(reader);
    if (value > 1) reader.fail(`0 or 1 wanted, ${value} found`);
    return value === 1;
  },
  write: (writer, value) => u8.write(writer, value ? 1 : 0),
};

/** Named values of an integer; a value that is not in the table does not decode. */
export function named<const T extends Readonly<Record<string, number>>>(
  codec: Codec<number>,
  table: T,
): Codec<keyof T & string> {
  const names = new Map(Object.entries(table).map(([name, value]) => [value, name as keyof T & string]));
  return {
    read: (reader) => {
      const value = codec.read(reader);
      return names.get(value) ?? reader.fail(`unknown value 0x${value.toString(16)}`);
    },
    write: (writer, name) => {
      const value = table[name];
      if (value === undefined) throw new RangeError(`no value is named ${name}`);
      codec.write(writer, value);
    },
  };
}

/** Bits by their number; a set bit that nobody declared does not decode. */
export function flags<const T extends Readonly<Record<string, number>>>(
  codec: Codec<number>,
  bits: T,
): Codec<{ readonly [K in keyof T]: boolean }> {
  const table = Object.entries(bits);
  const known = table.reduce((mask, [, bit]) => mask + 2 ** bit, 0);
  return {
    read: (reader) => {
      const value = codec.read(reader);
      if ((value & ~known) !== 0) reader.fail(`undeclared bits in 0x${value.toString(16)}`);
      return Object.fromEntries(table.map(([name, bit]) => [name, ((value >>> bit) & 1) === 1])) as {
        readonly [K in keyof T]: boolean;
      };
    },
    write: (writer, value) =>
      codec.write(
        writer,
        table.reduce((sum, [name, bit]) => sum + (value[name as keyof T] ? 2 ** bit : 0), 0),
      ),
  };
}

type StructOf<F> = { readonly [K in keyof F]: F[K] extends Codec<infer T> ? T : never };
// biome-ignore lint/suspicious/noExplicitAny: a field's codec is invariant in its type; `never` and `unknown` both refuse it
type AnyFields = { readonly [name: string]: Codec<any> };

/** Fields one after the other. */
export function struct<const F extends AnyFields>(fields: F): Codec<StructOf<F>> {
  const entries = Object.entries(fields) as [string, Codec<unknown>][];
  return {
    read: (reader) => {
      const outer = reader.path;
      const value: Record<string, unknown> = {};
      for (const [name, codec] of entries) {
        reader.path = outer === '' ? name : `${outer}.${name}`;
        value[name] = codec.read(reader);
      }
      reader.path = outer;
      return value as StructOf<F>;
    },
    write: (writer, value) => {
      for (const [name, codec] of entries) codec.write(writer, (value as Record<string, unknown>)[name]);
    },
  };
}

/** One structure of several: `tag` is read first, then the codec of its value. The tag's name is `type`. */
export function tagged<const C extends AnyFields, Tag extends string = 'type'>(
  tag: Codec<keyof C & string>,
  cases: C,
): Codec<{ [K in keyof C & string]: { readonly [T in Tag]: K } & Decoded<C[K]> }[keyof C & string]> {
  type Value = { [K in keyof C & string]: { readonly [T in Tag]: K } & Decoded<C[K]> }[keyof C & string];
  return {
    read: (reader) => {
      const type = tag.read(reader);
      const codec = cases[type];
      if (codec === undefined) return reader.fail(`no structure for ${type}`);
      return { type, ...codec.read(reader) } as Value;
    },
    write: (writer, value) => {
      const { type } = value as { readonly type: keyof C & string };
      tag.write(writer, type);
      const codec = cases[type];
      if (codec === undefined) throw new RangeError(`no structure for ${type}`);
      codec.write(writer, value as never);
    },
  };
}

/** A structure without fields. */
export const nothing: Codec<unknown> = { read: () => ({}), write: () => {} };
