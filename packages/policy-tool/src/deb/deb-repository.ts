import { createHash } from 'node:crypto';
import type { Log } from '@keylime/service/log';
import { decompressed } from '../archive/compression.ts';
import type { Workshop } from '../digest-files.ts';
import { type OpenPgpKeys, verifyClearSigned, verifyDetached } from '../open-pgp.ts';
import type { PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, openRepository, type RepositoryFiles } from '../repository-files.ts';
import { ToolError } from '../tool-error.ts';
import { paragraphs } from './deb-control.ts';
import type { DebPackage } from './deb-package.ts';
import { addDeb } from './deb-sources.ts';

/** One line of a `sources.list`. */
export type DebRepository = {
  readonly where: string;
  /** A suite such as `bookworm`, or a path that ends with `/` in a repository without suites. */
  readonly suite: string;
  readonly components: readonly string[];
};

export type DebRepositoryOptions = {
  readonly keys: OpenPgpKeys;
  readonly architecture: string;
  /** None means all. */
  readonly names: ReadonlySet<string>;
  readonly maxWorkers: number;
};

type IndexedPackage = { readonly name: string; readonly file: string; readonly sha256: string };

/**
 * Adds the files of packages of a Debian repository. The chain is: signature of `Release`, SHA-256 of the index in it,
 * SHA-256 of each package in the index. Without keys the first link is missing, and that is said.
 * @throws ToolError
 */
export async function addDebRepository(
  repository: DebRepository,
  options: DebRepositoryOptions,
  { algorithm, pool, progress, now }: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const files = openRepository(repository.where);
  const release = await readRelease(files, repository, options.keys, now, log);
  const packages: IndexedPackage[] = [];
  for (const folder of indexFolders(repository, options.architecture)) {
    packages.push(...indexedPackages(await readIndex(files, repository, folder, release), options.names));
  }
  const missing = [...options.names].filter((name) => !packages.some((one) => one.name === name));
  if (missing.length > 0) {
    throw new ToolError('not_found', `${repository.where} ${repository.suite} has no package ${missing.join(', ')}`);
  }
  progress.start(`Reading packages of ${repository.where}`, packages.length);
  const read = new Map<IndexedPackage, DebPackage>();
  await forEachLimited(packages, options.maxWorkers, async (one) => {
    const { file, sha256 } = one;
    read.set(one, await files.withFile(file, (local) => pool.run({ kind: 'deb', file: local, algorithm, sha256 })));
    progress.advance();
  });
  for (const one of packages) {
    const deb = read.get(one);
    if (deb !== undefined) addDeb(deb, draft);
  }
}

const suiteFolder = ({ suite }: DebRepository): string =>
  suite.endsWith('/') ? suite.replace(/^\.\//, '') : `dists/${suite}/`;

const indexFolders = ({ suite, components }: DebRepository, architecture: string): readonly string[] =>
  suite.endsWith('/')
    ? ['']
    : components.flatMap((component) => [`${component}/binary-${architecture}/`, `${component}/binary-all/`]);

/** SHA-256 and size of the files that `Release` names; `undefined` for a repository that has no `Release`. */
type Release = ReadonlyMap<string, string> | undefined;

async function readRelease(
  files: RepositoryFiles,
  repository: DebRepository,
  keys: OpenPgpKeys,
  now: Date,
  log: Log,
): Promise<Release> {
  const folder = suiteFolder(repository);
  const name = `${folder}Release`;
  const text = await releaseText(files, folder, keys, now);
  if (text === undefined) {
    if (keys.length > 0) {
      throw new ToolError('repository_signature', `The repository is not signed: there is no ${files.show(name)}`);
    }
    if (!repository.suite.endsWith('/')) {
      throw new ToolError('repository_invalid', `This is no Debian repository: there is no ${files.show(name)}`);
    }
    log.warn(`There is no ${files.show(name)}: nothing says who made the repository`);
    return undefined;
  }
  if (keys.length === 0) log.warn(`The signature of ${files.show(name)} is not checked: give keys with --deb-keyring`);
  const [fields] = paragraphs(text);
  const until = Date.parse(fields?.get('valid-until') ?? '');
  if (until < now.getTime())
    log.warn(`${files.show(name)} is out of date: it was valid until ${fields?.get('valid-until')}`);
  return new Map(
    (fields?.get('sha256') ?? '').split('\n').flatMap((line) => {
      const [, sha256, file] = /^\s*([0-9a-f]{64})\s+\d+\s+(\S+)$/.exec(line) ?? [];
      return sha256 === undefined || file === undefined ? [] : [[file, sha256] as const];
    }),
  );
}

async function releaseText(
  files: RepositoryFiles,
  folder: string,
  keys: OpenPgpKeys,
  now: Date,
): Promise<string | undefined> {
  const plain = await files.find(`${folder}Release`);
  const detached = plain && keys.length > 0 ? await files.find(`${folder}Release.gpg`) : undefined;
  if (plain !== undefined && detached !== undefined) {
    await verifyDetached(files.show(`${folder}Release`), plain, detached, keys, now);
  }
  if (plain !== undefined && (detached !== undefined || keys.length === 0)) return plain.toString('utf8');
  const inline = (await files.find(`${folder}InRelease`))?.toString('utf8');
  if (inline === undefined) {
    if (plain === undefined) return undefined;
    throw new ToolError('repository_signature', `${files.show(`${folder}Release`)} is not signed`);
  }
  if (keys.length > 0) return verifyClearSigned(files.show(`${folder}InRelease`), inline, keys, now);
  // Not checked, so only read: the text between the headers of the armour and the signature.
  return /\r?\n\r?\n([\s\S]*?)-----BEGIN PGP SIGNATURE-----/.exec(inline)?.[1] ?? inline;
}

const INDEX_NAMES = ['Packages.xz', 'Packages.gz', 'Packages'];

/** The text of an index; empty where the repository has none for that component. */
async function readIndex(
  files: RepositoryFiles,
  repository: DebRepository,
  folder: string,
  release: Release,
): Promise<string> {
  for (const name of INDEX_NAMES) {
    const sha256 = release?.get(folder + name);
    if (release !== undefined && sha256 === undefined) continue;
    const file = suiteFolder(repository) + folder + name;
    const content = await files.find(file);
    if (content === undefined) continue;
    const actual = createHash('sha256').update(content).digest('hex');
    if (sha256 !== undefined && actual !== sha256) {
      throw new ToolError('digest_mismatch', `${files.show(file)} has the SHA-256 ${actual}, Release says ${sha256}`);
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of decompressed(once(content))) chunks.push(chunk);
    return Buffer.concat(chunks).toString('utf8');
  }
  // What belongs to all architectures may have an index of its own, and mostly has none.
  if (folder.endsWith('binary-all/')) return '';
  const where = files.show(suiteFolder(repository) + folder);
  throw new ToolError('repository_invalid', `There is no index of packages ${where}Packages that Release names`);
}

function* indexedPackages(index: string, names: ReadonlySet<string>): Generator<IndexedPackage> {
  for (const fields of paragraphs(index)) {
    const [name, file, sha256] = [fields.get('package') ?? '', fields.get('filename'), fields.get('sha256')];
    if (names.size > 0 && !names.has(name)) continue;
    if (file === undefined || sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
      throw new ToolError('repository_invalid', `The index says no file or no SHA-256 for package ${name}`);
    }
    yield { name, file: file.replace(/^\.\//, ''), sha256 };
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
