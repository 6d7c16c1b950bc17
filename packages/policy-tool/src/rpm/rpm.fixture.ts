import { gzipSync } from 'node:zlib';
import { sha256 } from '../tool.fixture.ts';

type HeaderValue =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'numbers'; readonly value: readonly number[] }
  | { readonly type: 'bytes'; readonly value: Buffer };

const TYPES = { numbers: 4, string: 6, bytes: 7, strings: 8 } as const;

/** A header structure of a package with these tags. */
export function rpmHeader(values: { readonly [tag: number]: HeaderValue }): Buffer {
  const index: Buffer[] = [];
  let store = Buffer.alloc(0);
  for (const [tag, one] of Object.entries(values)) {
    if (one.type === 'numbers') store = Buffer.concat([store, Buffer.alloc((4 - (store.length % 4)) % 4)]);
    const entry = Buffer.alloc(16);
    entry.writeUInt32BE(Number(tag));
    entry.writeUInt32BE(TYPES[one.type], 4);
    entry.writeUInt32BE(store.length, 8);
    entry.writeUInt32BE(one.type === 'string' ? 1 : one.value.length, 12);
    index.push(entry);
    store = Buffer.concat([store, contentOf(one)]);
  }
  const intro = Buffer.alloc(16);
  intro.writeUInt32BE(0x8eade801);
  intro.writeUInt32BE(index.length, 8);
  intro.writeUInt32BE(store.length, 12);
  return Buffer.concat([intro, ...index, store]);
}

function contentOf(one: HeaderValue): Buffer {
  switch (one.type) {
    case 'string':
      return Buffer.from(`${one.value}\0`);
    case 'strings':
      return Buffer.from(one.value.map((text) => `${text}\0`).join(''));
    case 'numbers': {
      const bytes = Buffer.alloc(4 * one.value.length);
      for (const [i, value] of one.value.entries()) bytes.writeUInt32BE(value, 4 * i);
      return bytes;
    }
    case 'bytes':
      return one.value;
  }
}

export type RpmFixture = {
  readonly name: string;
  readonly epoch?: number;
  /** Digests by path. */
  readonly files: { readonly [path: string]: string };
  /** Signature of the header. */
  readonly sign?: (header: Buffer) => Promise<Buffer>;
};

/** A package of version 1.2-3, whose payload is missing. */
export async function rpmPackage({ name, epoch, files, sign }: RpmFixture): Promise<Buffer> {
  const paths = Object.keys(files);
  const directories = [...new Set(paths.map((path) => path.slice(0, path.lastIndexOf('/') + 1)))];
  const header = rpmHeader({
    1000: { type: 'string', value: name },
    1001: { type: 'string', value: '1.2' },
    1002: { type: 'string', value: '3' },
    ...(epoch !== undefined && { 1003: { type: 'numbers', value: [epoch] } as const }),
    1035: { type: 'strings', value: Object.values(files) },
    1116: {
      type: 'numbers',
      value: paths.map((path) => directories.indexOf(path.slice(0, path.lastIndexOf('/') + 1))),
    },
    1117: { type: 'strings', value: paths.map((path) => path.slice(path.lastIndexOf('/') + 1)) },
    1118: { type: 'strings', value: directories },
  });
  const lead = Buffer.alloc(96);
  lead.writeUInt32BE(0xedabeedb);
  const signatures = rpmHeader({
    273: { type: 'string', value: sha256(header) },
    ...(sign && { 268: { type: 'bytes', value: await sign(header) } as const }),
  });
  return Buffer.concat([lead, signatures, Buffer.alloc((8 - (signatures.length % 8)) % 8), header]);
}

/** The files of a repository with these packages; with `digests`, its metadata have the digests of their files. */
export async function rpmRepository(
  packages: readonly RpmFixture[],
  digests = false,
): Promise<{ [name: string]: string | Buffer }> {
  const files: { [name: string]: string | Buffer } = {};
  const data: string[] = [];
  const metadata = (type: string, text: string) => {
    const bytes = gzipSync(text);
    files[`repodata/${type}.xml.gz`] = bytes;
    data.push(
      `<data type="${type}"><checksum type="sha256">${sha256(bytes)}</checksum><location href="repodata/${type}.xml.gz"/></data>`,
    );
  };
  const version = ({ epoch = 0 }: RpmFixture) => `<version epoch="${epoch}" ver="1.2" rel="3"/>`;
  const primary: string[] = [];
  const lists: string[] = [];
  for (const one of packages) {
    const bytes = await rpmPackage(one);
    const href = `Packages/${one.name}.rpm`;
    files[href] = Buffer.concat([bytes, Buffer.alloc(10_000)]);
    primary.push(
      `<package type="rpm"><name>${one.name}</name>${version(one)}<checksum type="sha256">${sha256(files[href])}</checksum>` +
        `<location href="${href}"/><format><r:header-range start="0" end="${bytes.length}"/></format></package>`,
    );
    const list = Object.entries(one.files).map(([path, hex]) => `<file hash="${hex}">${path}</file>`);
    lists.push(`<package name="${one.name}">${version(one)}${list.join('')}<file type="dir">/usr</file></package>`);
  }
  metadata('primary', `<metadata xmlns:r="http://linux.duke.edu/metadata/rpm">${primary.join('')}</metadata>`);
  const namespace = 'http://linux.duke.edu/metadata/filelists-ext';
  if (digests) metadata('filelists-ext', `<filelists-ext xmlns="${namespace}">${lists.join('')}</filelists-ext>`);
  files['repodata/repomd.xml'] = `<?xml version="1.0"?><repomd>${data.join('')}</repomd>`;
  return files;
}
