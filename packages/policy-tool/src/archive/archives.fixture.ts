/*
 * Writers of archives for tests, as plain as can be: what they write is what the readers must accept. Real programs write
 * archives for tests, too, where they are installed.
 */

export type FixtureFile = {
  readonly path: string;
  readonly content?: string | Buffer;
  readonly mode?: number;
  readonly ino?: number;
  readonly nlink?: number;
};

const pad = (bytes: Buffer, multiple: number): Buffer =>
  Buffer.concat([bytes], Math.ceil(bytes.length / multiple) * multiple);

/** A cpio archive of the new ASCII format. */
export function cpioArchive(files: readonly FixtureFile[]): Buffer {
  const entry = ({ path, content = '', mode = 0o100755, ino = 0, nlink = 1 }: FixtureFile): Buffer => {
    const data = Buffer.from(content);
    const name = Buffer.from(`${path}\0`);
    const fields = [ino, mode, 0, 0, nlink, 0, data.length, 8, 1, 0, 0, name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
    return Buffer.concat([pad(Buffer.concat([header, name]), 4), pad(data, 4)]);
  };
  return Buffer.concat([...files.map(entry), entry({ path: 'TRAILER!!!', mode: 0 })]);
}

export type FixtureEntry = {
  readonly path: string;
  /** `0` file, `1` hard link, `2` symbolic link, `5` directory, `x` extended header, `L` long name. */
  readonly flag?: string;
  readonly content?: string | Buffer;
  readonly target?: string;
};

/** A tar archive in ustar form, ending with two blocks of zeros. */
export function tarArchive(entries: readonly FixtureEntry[]): Buffer {
  const block = ({ path, flag = '0', content = '', target = '' }: FixtureEntry): Buffer => {
    const data = Buffer.from(content);
    const header = Buffer.alloc(512);
    header.write(path, 0, 100, 'utf8');
    header.write('0000755\0', 100);
    header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('        ', 148);
    header.write(flag, 156);
    header.write(target, 157, 100, 'utf8');
    header.write('ustar\x0000', 257, 'latin1');
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return Buffer.concat([header, pad(data, 512)]);
  };
  return Buffer.concat([...entries.map(block), Buffer.alloc(1024)]);
}

/** A record of a pax extended header. */
export function paxRecord(name: string, value: string): string {
  const rest = ` ${name}=${value}\n`;
  let length = Buffer.byteLength(rest) + 1;
  while (Buffer.byteLength(`${length}${rest}`) !== length) length++;
  return `${length}${rest}`;
}

/** An `ar` archive as Debian packages have it. */
export function arArchive(members: readonly { readonly name: string; readonly content: Buffer | string }[]): Buffer {
  const member = ({ name, content }: (typeof members)[number]): Buffer => {
    const data = Buffer.from(content);
    const header = `${name.padEnd(16)}${'0'.padEnd(12)}${'0'.padEnd(6)}${'0'.padEnd(6)}${'100644'.padEnd(8)}${String(data.length).padEnd(10)}\`\n`;
    return Buffer.concat([Buffer.from(header), data, Buffer.alloc(data.length % 2, '\n')]);
  };
  return Buffer.concat([Buffer.from('!<arch>\n'), ...members.map(member)]);
}

/** A Debian package with plain tar archives in it. */
export const debArchive = (name: string, version: string, entries: readonly FixtureEntry[]): Buffer =>
  arArchive([
    { name: 'debian-binary', content: '2.0\n' },
    {
      name: 'control.tar',
      content: tarArchive([
        {
          path: './control',
          content: `Package: ${name}\nVersion: ${version}\nArchitecture: all\nDescription: x\n y\n`,
        },
      ]),
    },
    { name: 'data.tar', content: tarArchive(entries) },
  ]);

/** The bytes in pieces of `size`. */
export async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
