import { createHash } from 'node:crypto';
import type { Log } from '@keylime/service/log';
import { decompressed } from '../archive/compression.ts';
import { type OpenPgpKeys, parseOpenPgpKeys, verifyDetached } from '../open-pgp.ts';
import type { PackageNames } from '../package-names.ts';
import type { RepositoryFiles } from '../repository-files.ts';
import { ToolError } from '../tool-error.ts';
import type { RpmHeader } from './rpm-header.ts';
import { childOf, type XmlElement, xmlElements } from './xml-elements.ts';

/** A file with a checksum, as metadata of a repository name it. */
export type NamedFile = { readonly href: string; readonly algorithm: string; readonly checksum: string };

/** A package as `primary` describes it. */
export type RepositoryPackage = NamedFile & {
  readonly name: string;
  /** Name, version and release. */
  readonly label: string;
  /** Where its header ends; absent where the repository does not say. */
  readonly headerEnd: number | undefined;
};

/** A file of a package with its digest, as `filelists-ext` has it. */
export type PackageFile = { readonly path: string; readonly hex: string; readonly label: string };

/** Whom to believe what a repository says. */
export type RpmTrust = {
  /** The operator's; none means that anybody is believed, with a warning. */
  readonly keys: OpenPgpKeys;
  /** Each package must be signed by one of `keys`, the metadata need not: the way of most distributions. */
  readonly unsignedMetadata: boolean;
};

/** Metadata of a repository by their type, `primary` and others. */
export type Repomd = ReadonlyMap<string, NamedFile>;

const CHECKSUMS: ReadonlyMap<string, string> = new Map([
  ['sha', 'sha1'],
  ['sha1', 'sha1'],
  ['sha256', 'sha256'],
  ['sha384', 'sha384'],
  ['sha512', 'sha512'],
]);

/**
 * Reads `repodata/repomd.xml`, and checks its signature: with keys that an operator gave it must be signed by one of them,
 * unless he said that it need not be. Without, a signature is held against the key that lies beside it, which shows damage
 * but no author.
 * @throws ToolError `repository_invalid`, `repository_signature`, `key_invalid`
 */
export async function readRepomd(
  files: RepositoryFiles,
  { keys, unsignedMetadata }: RpmTrust,
  now: Date,
  log: Log,
): Promise<Repomd> {
  const name = 'repodata/repomd.xml';
  const content = await files.find(name);
  if (content === undefined) throw invalid(`there is no ${files.show(name)}`);
  const signature = await files.find(`${name}.asc`);
  if (unsignedMetadata) {
    log.warn(`${files.show(name)} need not be signed: packages may be missing or old, but are signed each`);
  } else if (keys.length > 0) {
    if (signature === undefined) {
      const problem = `The repository is not signed: there is no ${files.show(name)}.asc`;
      const hint = '(--rpm-unsigned-metadata is enough for one whose packages are signed)';
      throw new ToolError('repository_signature', `${problem} ${hint}`);
    }
    await verifyDetached(files.show(name), content, signature, keys, now);
  } else if (signature === undefined) {
    log.warn(`The repository is not signed: nothing says who made ${files.show(name)}`);
  } else {
    const key = await files.find(`${name}.key`);
    if (key === undefined) {
      throw new ToolError('repository_signature', `The key is missing: there is no ${files.show(name)}.key`);
    }
    await verifyDetached(
      files.show(name),
      content,
      signature,
      await parseOpenPgpKeys(key, files.show(`${name}.key`)),
      now,
    );
    log.warn('The repository is signed with a key that comes from the repository itself: give yours with --rpm-key');
  }
  const repomd = new Map<string, NamedFile>();
  for await (const data of xmlElements(once(content), 'data')) {
    const type = data.attributes.get('type');
    const file = namedFile(data);
    if (type !== undefined && file !== undefined) repomd.set(type, file);
  }
  return repomd;
}

/** Requires a signature of the header of a package by one of `keys`. @throws ToolError `repository_signature` */
export async function verifyHeader(
  what: string,
  { bytes, signature }: RpmHeader,
  keys: OpenPgpKeys,
  now: Date,
): Promise<void> {
  if (signature === undefined) {
    throw new ToolError('repository_signature', `The header of ${what} is not signed`);
  }
  await verifyDetached(what, bytes, signature, keys, now);
}

/** The unpacked content of a metadata file, after its checksum was found right. */
async function metadata(files: RepositoryFiles, file: NamedFile): Promise<AsyncIterable<Uint8Array>> {
  const content = await files.find(file.href);
  if (content === undefined) throw invalid(`there is no ${files.show(file.href)}`);
  const actual = createHash(file.algorithm).update(content).digest('hex');
  if (actual === file.checksum) return decompressed(once(content));
  throw new ToolError(
    'digest_mismatch',
    `${files.show(file.href)} has the ${file.algorithm} ${actual}, repomd.xml says ${file.checksum}`,
  );
}

/** The packages of the repository. @throws ToolError `repository_invalid`, `digest_mismatch` */
export async function* repositoryPackages(files: RepositoryFiles, repomd: Repomd): AsyncGenerator<RepositoryPackage> {
  const primary = repomd.get('primary');
  if (primary === undefined) throw invalid('repomd.xml names no primary metadata');
  for await (const element of xmlElements(await metadata(files, primary), 'package')) {
    const file = namedFile(element);
    const name = childOf(element, 'name')?.text ?? '';
    if (file === undefined || name === '') throw invalid('a package of the primary metadata has no name or no file');
    const format = childOf(element, 'format');
    const end = Number((format && childOf(format, 'header-range')?.attributes.get('end')) ?? 0);
    const headerEnd = Number.isSafeInteger(end) && end > 0 ? end : undefined;
    yield { ...file, name, label: `${name} ${versionOf(element)}`, headerEnd };
  }
}

/** Files of packages with digests as the metadata have them; `undefined` if the repository has no such metadata. */
export async function packageFiles(
  files: RepositoryFiles,
  repomd: Repomd,
  names: PackageNames,
): Promise<AsyncGenerator<PackageFile> | undefined> {
  const list = repomd.get('filelists-ext');
  return list && filesIn(await metadata(files, list), names);
}

async function* filesIn(source: AsyncIterable<Uint8Array>, names: PackageNames): AsyncGenerator<PackageFile> {
  for await (const element of xmlElements(source, 'package')) {
    const packageName = element.attributes.get('name') ?? '';
    if (!names.wants(packageName)) continue;
    const label = `${packageName} ${versionOf(element)}`;
    for (const { name, attributes, text } of element.children) {
      const hex = attributes.get('hash');
      if (name === 'file' && hex !== undefined) yield { path: text, hex, label };
    }
  }
}

/** `EPOCH:VERSION-RELEASE`, without an epoch of 0. */
function versionOf(element: XmlElement): string {
  const version = childOf(element, 'version')?.attributes;
  const epoch = version?.get('epoch') ?? '0';
  return `${epoch === '0' ? '' : `${epoch}:`}${version?.get('ver') ?? ''}-${version?.get('rel') ?? ''}`;
}

function namedFile(element: XmlElement): NamedFile | undefined {
  const href = childOf(element, 'location')?.attributes.get('href');
  const checksum = childOf(element, 'checksum');
  const algorithm = CHECKSUMS.get(checksum?.attributes.get('type') ?? '');
  const hex = checksum?.text.trim().toLowerCase() ?? '';
  if (href === undefined || algorithm === undefined || hex === '') return undefined;
  return { href, algorithm, checksum: hex };
}

const invalid = (why: string): ToolError => new ToolError('repository_invalid', `This is no RPM repository: ${why}`);

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
