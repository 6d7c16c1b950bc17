import { createReadStream, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import { ByteReader } from '../archive/byte-reader.ts';
import type { PackageContent } from '../content-cache.ts';
import type { Workshop } from '../digest-files.ts';
import { cachedDigest } from '../hash-cache.ts';
import { installedNames } from '../merged-usr.ts';
import type { PackageNames } from '../package-names.ts';
import { addFile, type PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, openRepository } from '../repository-files.ts';
import { realDirectory } from '../root-file-system.ts';
import type { Skipped } from '../skipped.ts';
import { reason, ToolError } from '../tool-error.ts';
import {
  type PackageFile,
  type RepositoryPackage,
  type RpmTrust,
  readRepomd,
  repositoryPackages,
  verifyHeader,
} from './repomd.ts';
import { type RpmHeader, readRpmHeader } from './rpm-header.ts';

const OPEN_FILES = 8;

/**
 * Adds the files of all packages in a directory with `repodata`. Each package must have the checksum that the metadata say;
 * where these are signed by an operator's key, packages that they do not name are left out. Where they need not be, each
 * package must be signed by such a key.
 * @throws ToolError
 */
export async function addLocalRepository(
  directory: string,
  trust: RpmTrust,
  packages: PackageNames,
  workshop: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const { progress, skipped, now } = workshop;
  const root = realDirectory(directory);
  const files = openRepository(root);
  const repomd = await readRepomd(files, trust, now, log);
  const listed = new Map<string, RepositoryPackage>();
  for await (const one of repositoryPackages(files, repomd)) listed.set(path.normalize(one.href), one);

  const names = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.rpm'))
    .sort();
  progress.start(`Reading packages of ${directory}`, names.length);
  const headers = new Map<string, RpmHeader>();
  await forEachLimited(names, OPEN_FILES, async (name) => {
    const file = path.join(root, name);
    const known = listed.get(name);
    if (known === undefined && trust.keys.length > 0 && !trust.unsignedMetadata) {
      skipped.failed('packages that the signed metadata do not name', name);
    } else if (known === undefined || packages.wants(known.name)) {
      if (known !== undefined) {
        const actual = await sumOnce(file, known.algorithm, workshop);
        if (actual !== known.checksum) {
          throw new ToolError(
            'digest_mismatch',
            `${file} has the ${known.algorithm} ${actual}, the metadata of its repository say ${known.checksum}`,
          );
        }
      }
      const header = await headerOf(file);
      if (trust.unsignedMetadata) await verifyHeader(file, header, trust.keys, now);
      headers.set(name, header);
    }
    progress.advance();
  });
  for (const name of names) {
    const header = headers.get(name);
    if (header !== undefined && packages.wants(header.name)) addRpm(header, draft, skipped);
  }
}

export function addRpm({ name, version, files }: PackageContent, draft: PolicyDraft, skipped: Skipped): void {
  for (const [file, hex] of files) addRpmFile({ path: file, hex, label: `${name} ${version}` }, draft, skipped);
}

export function addRpmFile({ path: file, hex, label }: PackageFile, draft: PolicyDraft, skipped: Skipped): void {
  if (hex.length < 40) skipped.failed('MD5 digests of packages', `${label}: ${file}`);
  else for (const installed of installedNames(file)) addFile(draft, installed, hex, label);
}

/** A digest of a file, which is not read again while it is the same. */
async function sumOnce(file: string, algorithm: string, { pool, cache }: Workshop): Promise<string> {
  const cached = cachedDigest(cache, file, algorithm);
  if (cached.known !== undefined) return cached.known;
  const sum = await pool.run({ kind: 'sum', file, algorithm });
  cached.keep(sum);
  return sum;
}

async function headerOf(file: string): Promise<RpmHeader> {
  const stream = createReadStream(file);
  try {
    return await readRpmHeader(new ByteReader(stream, 'RPM'));
  } catch (error) {
    if (error instanceof ToolError) throw new ToolError(error.code, `${file}: ${error.message}`, { cause: error });
    throw new ToolError('file_unreadable', `Cannot read ${file}: ${reason(error)}`, { cause: error });
  } finally {
    stream.destroy();
  }
}
