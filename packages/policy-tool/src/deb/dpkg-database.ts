import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import { type Candidate, digestFiles, type Workshop } from '../digest-files.ts';
import { stampOf, systemPath } from '../file-digest.ts';
import type { PackageNames } from '../package-names.ts';
import { addFile, type PolicyDraft } from '../policy-draft.ts';
import { realDirectory } from '../root-file-system.ts';
import { resolveParents } from '../rooted-path.ts';
import { isErrno, reason, ToolError } from '../tool-error.ts';
import { type Paragraph, paragraphs } from './deb-control.ts';

/** A file that dpkg knows: where it comes from, and its MD5 as far as the package says it. */
type InstalledFile = {
  readonly path: string;
  readonly label: string;
  readonly md5?: string;
  readonly isConffile: boolean;
};

const DATABASE = 'var/lib/dpkg';

/**
 * Adds the files of the packages that are installed below a root, digested as they are on disk. What dpkg says of them is
 * MD5, too weak to allow anything: it only has to agree. A file that does not agree is left out, unless it is a
 * configuration file, which its administrator may have changed.
 * @throws ToolError `not_found`, `file_unreadable`
 */
export async function addInstalledPackages(
  directory: string,
  names: PackageNames,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const { skipped, progress } = workshop;
  const root = realDirectory(directory);
  const prefix = root === '/' ? '' : root;
  const files = new Map<string, InstalledFile>();
  for (const file of installedFiles(root, names)) if (!files.has(file.path)) files.set(file.path, file);

  const links = new Map<string, string | undefined>();
  const readLink = (link: string): string | undefined => {
    if (!links.has(link)) links.set(link, linkTarget(prefix + link));
    return links.get(link);
  };
  function* candidates(): Generator<Candidate & InstalledFile> {
    for (const file of files.values()) {
      const name = resolveParents(file.path, readLink);
      if (name === undefined) continue;
      const place = prefix + name;
      try {
        const stat = lstatSync(systemPath(place), { bigint: true });
        if (stat.isFile()) yield { ...file, name, path: place, stamp: stampOf(stat) };
      } catch (error) {
        // Manuals and translations that an administrator does not want.
        if (isErrno(error, 'ENOENT', 'ENOTDIR')) skipped.left('files of packages that are not on disk', name);
        else skipped.failed(`files that cannot be digested: ${reason(error)}`, name);
      }
    }
  }
  progress.start(`Digesting packages installed in ${directory}`);
  const found = [...candidates()];
  const known = new Map(found.map((file) => [file.name, file]));
  let changedConffiles = 0;
  for (const { name, hex, md5 } of await digestFiles(found, workshop, true)) {
    const file = known.get(name);
    if (file?.md5 !== undefined && file.md5 !== md5) {
      if (!file.isConffile) {
        skipped.failed('files that are not as their package brought them', name);
        continue;
      }
      changedConffiles++;
    }
    addFile(draft, name, hex, file?.label);
  }
  if (changedConffiles > 0) log.info(`${changedConffiles} configuration files differ from those of their packages`);
}

/** Files of packages in state `installed`, those that one package gave another name (diversions) under that. */
function* installedFiles(root: string, names: PackageNames): Generator<InstalledFile> {
  const diversions = readDiversions(databaseFile(root, 'diversions'));
  const status = databaseFile(root, 'status');
  if (status === undefined) throw new ToolError('not_found', `There is no ${path.join(root, DATABASE, 'status')}`);
  for (const fields of paragraphs(status)) {
    const name = fields.get('package') ?? '';
    if (!fields.get('status')?.endsWith(' installed') || !names.wants(name)) continue;
    if (!/^[a-z0-9][a-z0-9+.-]*$/.test(name)) continue;
    const architecture = fields.get('architecture') ?? '';
    const info = (suffix: string) =>
      databaseFile(root, `info/${name}.${suffix}`) ??
      databaseFile(root, `info/${name}:${architecture}.${suffix}`) ??
      '';
    const conffiles = readConffiles(fields);
    const sums = readMd5sums(info('md5sums'));
    const label = `${name} ${fields.get('version') ?? ''}`;
    for (const file of info('list').split('\n')) {
      if (!file.startsWith('/') || file === '/.') continue;
      const diversion = diversions.get(file);
      const place = diversion === undefined || diversion.by === name ? file : diversion.to;
      const md5 = conffiles.get(file) ?? sums.get(file);
      yield { path: place, label, isConffile: conffiles.has(file), ...(md5 !== undefined && { md5 }) };
    }
  }
}

function databaseFile(root: string, name: string): string | undefined {
  const file = path.join(root, DATABASE, name);
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw new ToolError('file_unreadable', `Cannot read ${file}: ${reason(error)}`, { cause: error });
  }
}

/** Lines `MD5  path`, the path from the root on without `/` in front. */
function readMd5sums(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split('\n').flatMap((line) => {
      const [, md5, file] = /^([0-9a-f]{32}) [ *](.+)$/.exec(line) ?? [];
      return md5 === undefined || file === undefined ? [] : [[`/${file}`, md5] as const];
    }),
  );
}

/** Lines `path MD5 [obsolete]`. */
function readConffiles(fields: Paragraph): ReadonlyMap<string, string> {
  return new Map(
    (fields.get('conffiles') ?? '').split('\n').flatMap((line) => {
      const [, file, md5] = /^(\/.*) ([0-9a-f]{32})( obsolete)?$/.exec(line.trim()) ?? [];
      return file === undefined || md5 === undefined ? [] : [[file, md5] as const];
    }),
  );
}

/** Three lines each: the path, its other name, and the package that keeps the path (`:` for none). */
function readDiversions(text: string | undefined) {
  const lines = (text ?? '').split('\n');
  const diversions = new Map<string, { readonly to: string; readonly by: string }>();
  for (let i = 0; i + 2 < lines.length; i += 3) {
    diversions.set(lines[i] ?? '', { to: lines[i + 1] ?? '', by: lines[i + 2] ?? '' });
  }
  return diversions;
}

function linkTarget(link: string): string | undefined {
  try {
    return readlinkSync(systemPath(link), 'utf8');
  } catch {
    // No link, or nothing at all: what is at the end of the path will show.
    return undefined;
  }
}
