import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import { type PackageContent, packageContent } from '../content-cache.ts';
import type { Workshop } from '../digest-files.ts';
import { cachedDigest } from '../hash-cache.ts';
import { installedNames } from '../merged-usr.ts';
import { type OpenPgpKeys, parseOpenPgpKeys, readOpenPgpKeys } from '../open-pgp.ts';
import { type PackageNames, packageNames } from '../package-names.ts';
import { addFile, type PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, isUrl } from '../repository-files.ts';
import { reason, ToolError } from '../tool-error.ts';
import { addDebRepository, type DebRepository, type DebRepositoryOptions } from './deb-repository.ts';
import { addInstalledPackages } from './dpkg-database.ts';
import { parseRepository, readSourcesFile } from './sources-list.ts';

export type DebOptions = {
  /** Files with OpenPGP keys. */
  readonly keyrings: readonly string[];
  readonly architecture: string | undefined;
  /** Names of packages; none means all. */
  readonly packages: readonly string[];
  readonly maxWorkers: number;
  /** Take repositories whose `Valid-Until` is past. */
  readonly acceptExpired: boolean;
};

/** What `--deb` names. */
export type DebSource =
  | { readonly kind: 'installed'; readonly root: string }
  | { readonly kind: 'repository'; readonly repository: DebRepository }
  | { readonly kind: 'sources'; readonly path: string }
  | { readonly kind: 'path'; readonly path: string };

const ARCHITECTURES: { readonly [node: string]: string } = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'armhf',
  ppc64: 'ppc64el',
  s390x: 's390x',
  riscv64: 'riscv64',
  ia32: 'i386',
  loong64: 'loong64',
};

/**
 * `installed` or `installed:ROOT`; a `.deb` file or a directory with such; a file of apt with sources (`.list`, `.sources`);
 * or a line of a `.list`.
 * @throws ToolError `usage`
 */
export function parseDebSource(text: string): DebSource {
  if (text === 'installed') return { kind: 'installed', root: '/' };
  if (text.startsWith('installed:')) return { kind: 'installed', root: text.slice('installed:'.length) };
  if (/\.(list|sources)$/.test(text)) return { kind: 'sources', path: text };
  const isLine = /\s/.test(text.trim()) || isUrl(text);
  return isLine ? { kind: 'repository', repository: parseRepository(text) } : { kind: 'path', path: text };
}

/**
 * Adds the files of Debian packages from everywhere that `--deb` names. Packages that are asked for by name must be
 * somewhere there.
 * @throws ToolError
 */
export async function addDebSources(
  texts: readonly string[],
  { keyrings, architecture, packages, maxWorkers, acceptExpired }: DebOptions,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const names = packageNames(packages);
  const keys = await readOpenPgpKeys(keyrings);
  const options = { keys, architecture, names, maxWorkers, acceptExpired };
  for (const source of texts.map(parseDebSource)) await addDebSource(source, options, workshop, draft, log);
  names.requireAll(texts.join(' and '));
}

type SourceOptions = Omit<DebRepositoryOptions, 'architectures'> & { readonly architecture: string | undefined };

async function addDebSource(
  source: DebSource,
  options: SourceOptions,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  switch (source.kind) {
    case 'installed':
      return await addInstalledPackages(source.root, options.names, workshop, draft, log);
    case 'path':
      return await addDebFiles(source.path, options.names, workshop, draft);
    case 'repository':
      return await addRepository(source.repository, options, workshop, draft, log);
    case 'sources':
      for (const repository of await readSourcesFile(source.path)) {
        await addRepository(repository, options, workshop, draft, log);
      }
  }
}

async function addRepository(
  repository: DebRepository,
  { architecture, ...options }: SourceOptions,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const { signedBy, architectures = [ARCHITECTURES[process.arch] ?? process.arch] } = repository;
  const keys = signedBy === undefined ? options.keys : await readSigners(signedBy);
  const wanted = architecture === undefined ? architectures : [architecture];
  await addDebRepository(repository, { ...options, keys, architectures: wanted }, workshop, draft, log);
}

const readSigners = (signedBy: NonNullable<DebRepository['signedBy']>): Promise<OpenPgpKeys> =>
  'files' in signedBy
    ? readOpenPgpKeys(signedBy.files)
    : parseOpenPgpKeys(Buffer.from(signedBy.armoredKey), `The key in ${signedBy.in}`);

async function addDebFiles(place: string, names: PackageNames, workshop: Workshop, draft: PolicyDraft): Promise<void> {
  const files = debFiles(place);
  const { progress } = workshop;
  progress.start(`Reading packages of ${place}`, files.length);
  const read = new Map<string, PackageContent>();
  // As many at the same time as keep the threads busy: their order does not matter, their memory does.
  await forEachLimited(files, 8, async (file) => {
    read.set(file, await readFileOnce(file, workshop));
    progress.advance();
  });
  for (const file of files) {
    const deb = read.get(file);
    if (deb !== undefined && names.wants(deb.name)) addDeb(deb, draft);
  }
}

/** A package in a file, which is not read again while the file is the same. */
async function readFileOnce(file: string, { algorithm, pool, cache, contents }: Workshop): Promise<PackageContent> {
  const sum = cachedDigest(cache, file, 'sha256');
  const known = sum.known === undefined ? undefined : contents.find(sum.known, algorithm, packageContent);
  if (known !== undefined) return known;
  const { sha256, ...deb } = await pool.run({ kind: 'deb', file, algorithm });
  sum.keep(sha256);
  contents.keep(sha256, algorithm, deb);
  return deb;
}

function debFiles(place: string): readonly string[] {
  try {
    if (!statSync(place).isDirectory()) return [place];
    const files = readdirSync(place, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.deb'));
    if (files.length > 0) return files.sort().map((name) => path.join(place, name));
  } catch (error) {
    throw new ToolError('not_found', `Cannot read ${place}: ${reason(error)}`, { cause: error });
  }
  throw new ToolError('not_found', `There is no .deb file in ${place}`);
}

/** Adds the files of a package under each name that they may have once they are installed. */
export function addDeb({ name, version, files }: PackageContent, draft: PolicyDraft): void {
  const label = `${name} ${version}`;
  for (const [file, hex] of files) {
    for (const installed of installedNames(file)) addFile(draft, installed, hex, label);
  }
}
