import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import type { Workshop } from '../digest-files.ts';
import { readOpenPgpKeys } from '../open-pgp.ts';
import { addFile, type PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, isUrl } from '../repository-files.ts';
import { reason, ToolError } from '../tool-error.ts';
import type { DebPackage } from './deb-package.ts';
import { addDebRepository, type DebRepository } from './deb-repository.ts';
import { addInstalledPackages } from './dpkg-database.ts';

export type DebOptions = {
  /** OpenPGP keys, as files have them. */
  readonly keyrings: readonly Buffer[];
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
 * `installed` or `installed:ROOT`; a `.deb` file or a directory with such; or a line of a `sources.list`, with or without
 * `deb` in front.
 * @throws ToolError `usage`
 */
export function parseDebSource(text: string): DebSource {
  if (text === 'installed') return { kind: 'installed', root: '/' };
  if (text.startsWith('installed:')) return { kind: 'installed', root: text.slice('installed:'.length) };
  const [where = '', suite, ...components] = text
    .trim()
    .replace(/^deb\s+/, '')
    .split(/\s+/);
  if (suite === undefined && !isUrl(where)) return { kind: 'path', path: text };
  const isComplete = suite !== undefined && (suite.endsWith('/') ? components.length === 0 : components.length > 0);
  if (!isComplete || !(isUrl(where) || where.startsWith('/') || where.startsWith('file:'))) {
    throw new ToolError(
      'usage',
      `--deb ${JSON.stringify(text)}: a repository is given as 'ADDRESS SUITE COMPONENT...' or 'ADDRESS PATH/', ` +
        'where the address is a URL or an absolute path',
    );
  }
  return { kind: 'repository', repository: { where: where.replace(/^file:(\/\/)?/, ''), suite, components } };
}

/** Adds the files of Debian packages from everywhere that `--deb` names. @throws ToolError */
export async function addDebSources(
  texts: readonly string[],
  { keyrings, architecture, packages, maxWorkers, acceptExpired }: DebOptions,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const names = new Set(packages.flatMap((list) => list.split(',')).filter((name) => name !== ''));
  const keys = await readOpenPgpKeys(keyrings);
  const ours = architecture ?? ARCHITECTURES[process.arch] ?? process.arch;
  for (const source of texts.map(parseDebSource)) {
    if (source.kind === 'installed') await addInstalledPackages(source.root, names, workshop, draft, log);
    else if (source.kind === 'path') await addDebFiles(source.path, names, workshop, draft);
    else {
      await addDebRepository(
        source.repository,
        { keys, architecture: ours, names, maxWorkers, acceptExpired },
        workshop,
        draft,
        log,
      );
    }
  }
}

async function addDebFiles(
  place: string,
  names: ReadonlySet<string>,
  { algorithm, pool, progress }: Workshop,
  draft: PolicyDraft,
): Promise<void> {
  const files = debFiles(place);
  progress.start(`Reading packages of ${place}`, files.length);
  const read = new Map<string, DebPackage>();
  // As many at the same time as keep the threads busy: their order does not matter, their memory does.
  await forEachLimited(files, 8, async (file) => {
    read.set(file, await pool.run({ kind: 'deb', file, algorithm }));
    progress.advance();
  });
  for (const file of files) {
    const deb = read.get(file);
    if (deb !== undefined && (names.size === 0 || names.has(deb.name))) addDeb(deb, draft);
  }
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

/** Directories that are links into `/usr` on a merged system, where the kernel names files by their real place. */
const MERGED = /^\/(?:bin|sbin|lib|lib32|lib64|libx32)\//;

/** Adds the files of a package under each name that they may have once they are installed. */
export function addDeb({ name, version, files }: DebPackage, draft: PolicyDraft): void {
  const label = `${name} ${version}`;
  for (const [file, hex] of files) {
    addFile(draft, file, hex, label);
    if (MERGED.test(file)) addFile(draft, `/usr${file}`, hex, label);
  }
}
