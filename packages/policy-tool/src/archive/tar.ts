import type { ByteReader } from './byte-reader.ts';

/** One entry of a tar archive. `content`, of `sizeBytes`, is to be read before the next entry is asked for. */
export type TarEntry = {
  /** As the archive has it, one character per byte (latin1), but without `./` in front and `/` behind. */
  readonly path: string;
  readonly type: 'file' | 'hard_link' | 'symbolic_link' | 'directory' | 'other';
  /** Target of a link, one character per byte. */
  readonly target: string;
  readonly sizeBytes: number;
  /** Hands over the content, piece by piece; not called, it is passed over. */
  readonly content: (consume: (piece: Buffer) => void) => Promise<void>;
};

const BLOCK = 512;
/** Of extended headers and long names: far more than any path. */
const MAX_EXTENSION_BYTES = 1 << 20;

const TYPES: { readonly [flag: string]: TarEntry['type'] } = {
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  '1': 'hard_link',
  '2': 'symbolic_link',
  '5': 'directory',
  '3': 'other',
  '4': 'other',
  '6': 'other',
};

/** What extended headers say about the entry that follows. */
type Extension = { path?: string; target?: string; sizeBytes?: number };

/**
 * The entries of a tar archive: ustar, with the extensions of pax and GNU for long names and large sizes. Sparse files are
 * refused. Source: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 */
export async function* tarEntries(reader: ByteReader): AsyncGenerator<TarEntry> {
  let extension: Extension = {};
  const global: Extension = {};
  for (;;) {
    const header = await reader.upTo(BLOCK);
    if (header.length === 0 || header.every((byte) => byte === 0)) return reader.drain();
    if (header.length < BLOCK) reader.fail('a header is cut short');
    const field = (start: number, end: number) => untilNul(header.toString('latin1', start, end));
    if (headerSum(header) !== octal(field(148, 156))) reader.fail('the checksum of a header is wrong');
    const flag = header.toString('latin1', 156, 157);
    const isUstar = field(257, 262) === 'ustar';
    const size = sizeOf(header);
    if (size === undefined) reader.fail('the size of an entry is malformed');

    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      if (size > MAX_EXTENSION_BYTES) reader.fail('an extended header is too large');
      const data = await reader.exactly(size);
      await reader.exactly(padding(size));
      if (flag === 'L') extension.path = untilNul(data.toString('latin1'));
      else if (flag === 'K') extension.target = untilNul(data.toString('latin1'));
      else Object.assign(flag === 'g' ? global : extension, paxRecords(data, reader));
      continue;
    }
    const type = TYPES[flag];
    if (type === undefined) reader.fail(`entries of type ${JSON.stringify(flag)} are not supported`);
    const prefix = isUstar && field(257, 263) === 'ustar' && header[263] === 0x30 ? field(345, 500) : '';
    const shortPath = prefix === '' ? field(0, 100) : `${prefix}/${field(0, 100)}`;
    const known: Extension = { ...global, ...extension };
    extension = {};
    const hasContent = type === 'file';
    const sizeBytes = hasContent ? (known.sizeBytes ?? size) : 0;
    let unread = sizeBytes;
    yield {
      path: plainPath(known.path ?? shortPath),
      type,
      target: known.target ?? field(157, 257),
      sizeBytes,
      content: (consume) => {
        const wanted = unread;
        unread = 0;
        return reader.forEach(wanted, consume);
      },
    };
    await reader.skip(unread);
    // Hard links of some archives have a size, but POSIX gives them content only where pax says so, and no tool writes it.
    // The padding of the last entry is missing where nobody closed the archive (umoci): the content is all there.
    await reader.upTo(padding(sizeBytes));
  }
}

const untilNul = (text: string): string => {
  const nul = text.indexOf('\0');
  return nul < 0 ? text : text.slice(0, nul);
};

const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

const plainPath = (path: string): string => path.replace(/^(?:\.?\/+)+/, '').replace(/\/+$/, '');

/** Sum of all bytes with the checksum itself taken as spaces. */
function headerSum(header: Buffer): number {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] ?? 0;
  return sum;
}

function octal(text: string): number | undefined {
  const digits = text.trim();
  return /^[0-7]{1,12}$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}

/** Octal digits, or (GNU) a big-endian number with the highest bit of the field set. */
function sizeOf(header: Buffer): number | undefined {
  if (((header[124] ?? 0) & 0x80) === 0) {
    const text = untilNul(header.toString('latin1', 124, 136)).trim();
    return text === '' ? 0 : octal(text);
  }
  const size = header.readBigUInt64BE(128);
  const high = header.readUInt32BE(124);
  return high === 0x80000000 && size <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(size) : undefined;
}

/** Records `LENGTH NAME=VALUE\n`, where the length counts the whole record in bytes. */
function paxRecords(data: Buffer, reader: ByteReader): Extension {
  const extension: Extension = {};
  for (let at = 0; at < data.length && data[at] !== 0; ) {
    const [head = ''] = /^\d{1,7} /.exec(data.toString('latin1', at, at + 8)) ?? [];
    const length = Number(head);
    const record = data.toString('latin1', at + head.length, at + length);
    const equals = record.indexOf('=');
    if (head === '' || length <= head.length || at + length > data.length || equals < 1 || !record.endsWith('\n')) {
      reader.fail('a record of an extended header is malformed');
    }
    const name = record.slice(0, equals);
    const value = record.slice(equals + 1, -1);
    if (name === 'path') extension.path = value;
    if (name === 'linkpath') extension.target = value;
    if (name.startsWith('GNU.sparse.')) reader.fail('sparse files are not supported');
    if (name === 'size') {
      if (!/^\d{1,15}$/.test(value)) reader.fail('the size in an extended header is malformed');
      extension.sizeBytes = Number(value);
    }
    at += length;
  }
  return extension;
}
