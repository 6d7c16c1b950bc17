import { createHash } from 'node:crypto';
import type { Log } from '@keylime/service/log';
import { decompressed } from '../archive/compression.ts';
import { type PackageContent, packageContent } from '../content-cache.ts';
import type { Workshop } from '../digest-files.ts';
import { type OpenPgpKeys, verifyClearSigned, verifyDetached } from '../open-pgp.ts';
import type { PackageNames } from '../package-names.ts';
import type { PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, openRepository, type RepositoryFiles } from '../repository-files.ts';
import { ToolError } from '../tool-error.ts';
import { paragraphs } from './deb-control.ts';
import { addDeb } from './deb-sources.ts';

/** One line of a `sources.list`. */
export type DebRepository = {
  readonly where: string;
  /** A suite such as `bookworm`, or a path that ends with `/` in a repository without suites. */
  readonly suite: string;
  readonly components: readonly string[];
  /** Those to take instead of this machine's. */
  readonly architectures?: readonly string[];
  /** The keys to believe instead of all others: in files, or in the file called `in` that names the repository. */
  readonly signedBy?: { readonly files: readonly string[] } | { readonly armoredKey: string; readonly in: string };
};

export type DebRepositoryOptions = {
  readonly keys: OpenPgpKeys;
  readonly architectures: readonly string[];
  readonly names: PackageNames;
  readonly maxWorkers: number;
  /** Take a repository that no longer says of itself that it is up to date, such as a snapshot. */
  readonly acceptExpired: boolean;
};

type IndexedPackage = { readonly file: string; readonly sha256: string };

/**
 * Adds the files of packages of a Debian repository. The chain is: signature of `Release`, SHA-256 of the index in it,
 * SHA-256 of each package in the index. Without keys the first link is missing, and that is said. A package of that SHA-256
 * which was read before is not fetched again.
 * @throws ToolError
 */
export async function addDebRepository(
  repository: DebRepository,
  options: DebRepositoryOptions,
  { algorithm, pool, contents, progress, now }: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const files = openRepository(repository.where);
  const release = await readRelease(files, repository, options, now, log);
  const packages: IndexedPackage[] = [];
  for (const folder of indexFolders(repository, options.architectures, release)) {
    packages.push(...indexedPackages(await readIndex(files, repository, folder, release), options.names));
  }
  progress.start(`Reading packages of ${repository.where}`, packages.length);
  const read = new Map<IndexedPackage, PackageContent>();
  await forEachLimited(packages, options.maxWorkers, async (one) => {
    const { file, sha256 } = one;
    const task = { kind: 'deb', algorithm, sha256, shown: files.show(file) } as const;
    const known = contents.find(sha256, algorithm, packageContent);
    const deb = known ?? (await files.withFile(file, (local) => pool.run({ ...task, file: local })));
    if (known === undefined) contents.keep(sha256, algorithm, deb);
    read.set(one, deb);
    progress.advance();
  });
  for (const one of packages) {
    const deb = read.get(one);
    if (deb !== undefined) addDeb(deb, draft);
  }
}

const suiteFolder = ({ suite }: DebRepository): string =>
  suite.endsWith('/') ? suite.replace(/^\.\//, '') : `dists/${suite}/`;

/** Packages for all architectures are in the indexes of each, and beside them only where `Release` says so, as apt has it. */
function indexFolders({ suite, components }: DebRepository, ours: readonly string[], release: Release | undefined) {
  if (suite.endsWith('/')) return [''];
  const architectures = release?.hasArchitectureAll ? [...ours, 'all'] : ours;
  return components.flatMap((component) => architectures.map((one) => `${component}/binary-${one}/`));
}

/** What is relied on of a `Release` file. */
type Release = {
  /** SHA-256 of the files that it names. */
  readonly sha256: ReadonlyMap<string, string>;
  /** Whether the server has each index under its digest, too, where it stays while it is replaced. */
  readonly byHash: boolean;
  /** Whether there are indexes of packages for all architectures. */
  readonly hasArchitectureAll: boolean;
};

/** `undefined` for a repository without suites that has none. */
async function readRelease(
  files: RepositoryFiles,
  repository: DebRepository,
  { keys, acceptExpired }: DebRepositoryOptions,
  now: Date,
  log: Log,
): Promise<Release | undefined> {
  const folder = suiteFolder(repository);
  const name = files.show(`${folder}Release`);
  const text = await releaseText(files, folder, keys, now);
  if (text === undefined) {
    if (!repository.suite.endsWith('/')) {
      throw new ToolError('repository_invalid', `This is no Debian repository: there is no ${name}`);
    }
    if (keys.length > 0)
      throw new ToolError('repository_signature', `The repository is not signed: there is no ${name}`);
    log.warn(`There is no ${name}: nothing says who made the repository`);
    return undefined;
  }
  if (keys.length === 0) log.warn(`The signature of ${name} is not checked: give keys with --deb-keyring`);
  const [fields] = paragraphs(text);
  const until = fields?.get('valid-until') ?? '';
  if (Date.parse(until) < now.getTime()) {
    // An old state with its holes, but a good signature, is what somebody between here and the server would show.
    const problem = `${name} is out of date: it was valid until ${until}`;
    if (keys.length > 0 && !acceptExpired) {
      throw new ToolError('repository_signature', `${problem} (--deb-accept-expired takes it nevertheless)`);
    }
    log.warn(problem);
  }
  const sums = (fields?.get('sha256') ?? '').split('\n').flatMap((line) => {
    const [, sha256, file] = /^\s*([0-9a-f]{64})\s+\d+\s+(\S+)$/.exec(line) ?? [];
    return sha256 === undefined || file === undefined ? [] : [[file, sha256] as const];
  });
  const isListed = (field: string, word: string) => fields?.get(field)?.split(/\s+/).includes(word) ?? false;
  return {
    sha256: new Map(sums),
    byHash: isListed('acquire-by-hash', 'yes'),
    hasArchitectureAll: isListed('architectures', 'all') && !isListed('no-support-for-architecture-all', 'Packages'),
  };
}

/** `InRelease` first, as apt does: `Release` and its signature may be of different days while a server is renewed. */
async function releaseText(
  files: RepositoryFiles,
  folder: string,
  keys: OpenPgpKeys,
  now: Date,
): Promise<string | undefined> {
  const inline = (await files.find(`${folder}InRelease`))?.toString('utf8');
  if (inline !== undefined) {
    if (keys.length > 0) return verifyClearSigned(files.show(`${folder}InRelease`), inline, keys, now);
    // Not checked, so only read: the text between the headers of the armour and the signature.
    return /\r?\n\r?\n([\s\S]*?)-----BEGIN PGP SIGNATURE-----/.exec(inline)?.[1] ?? inline;
  }
  const plain = await files.find(`${folder}Release`);
  if (plain === undefined) return undefined;
  if (keys.length > 0) {
    const name = files.show(`${folder}Release`);
    const detached = await files.find(`${folder}Release.gpg`);
    if (detached === undefined) {
      throw new ToolError('repository_signature', `The repository is not signed: there is no ${name}.gpg`);
    }
    await verifyDetached(name, plain, detached, keys, now);
  }
  return plain.toString('utf8');
}

/** Ten times that of the largest distribution. */
const MAX_INDEX_BYTES = 500_000_000;

const INDEX_NAMES = ['Packages.xz', 'Packages.gz', 'Packages'];

/** The text of an index. @throws ToolError `repository_invalid`, `digest_mismatch` */
async function readIndex(
  files: RepositoryFiles,
  repository: DebRepository,
  folder: string,
  release: Release | undefined,
): Promise<string> {
  for (const name of INDEX_NAMES) {
    const sha256 = release?.sha256.get(folder + name);
    if (release !== undefined && sha256 === undefined) continue;
    const file = suiteFolder(repository) + folder + name;
    const copy = release?.byHash ? `${suiteFolder(repository)}${folder}by-hash/SHA256/${sha256}` : undefined;
    const content = (copy === undefined ? undefined : await files.find(copy)) ?? (await files.find(file));
    if (content === undefined) continue;
    const actual = createHash('sha256').update(content).digest('hex');
    if (sha256 !== undefined && actual !== sha256) {
      throw new ToolError('digest_mismatch', `${files.show(file)} has the SHA-256 ${actual}, Release says ${sha256}`);
    }
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of decompressed(once(content))) {
      sizeBytes += chunk.length;
      if (sizeBytes > MAX_INDEX_BYTES) throw new ToolError('repository_invalid', `${files.show(file)} is too large`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('utf8');
  }
  const where = files.show(suiteFolder(repository) + folder);
  throw new ToolError('repository_invalid', `There is no index of packages ${where}Packages that Release names`);
}

function* indexedPackages(index: string, names: PackageNames): Generator<IndexedPackage> {
  for (const fields of paragraphs(index)) {
    const [name, file, sha256] = [fields.get('package') ?? '', fields.get('filename'), fields.get('sha256')];
    if (!names.wants(name)) continue;
    if (file === undefined || sha256 === undefined || !/^[0-9a-f]{64}$/.test(sha256)) {
      throw new ToolError('repository_invalid', `The index says no file or no SHA-256 for package ${name}`);
    }
    yield { file: file.replace(/^\.\//, ''), sha256 };
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
