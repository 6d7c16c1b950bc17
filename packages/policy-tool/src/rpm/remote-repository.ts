import { createHash } from 'node:crypto';
import type { Log } from '@keylime/service/log';
import { ByteReader } from '../archive/byte-reader.ts';
import { type PackageContent, packageContent } from '../content-cache.ts';
import type { Workshop } from '../digest-files.ts';
import { patiently } from '../http-files.ts';
import { validFingerprints } from '../open-pgp.ts';
import type { PackageNames } from '../package-names.ts';
import type { PolicyDraft } from '../policy-draft.ts';
import { forEachLimited, isUrl, openRepository, type RepositoryFiles } from '../repository-files.ts';
import { ToolError } from '../tool-error.ts';
import { addRpm, addRpmFile } from './local-repository.ts';
import {
  packageFiles,
  type RepositoryPackage,
  type RpmTrust,
  readRepomd,
  repositoryPackages,
  verifyHeader,
} from './repomd.ts';
import { type RpmHeader, readRpmHeader } from './rpm-header.ts';

/**
 * Adds the files of all packages of a repository on a server: from its `filelists-ext` metadata, or else from the headers
 * of its packages, of which no more is asked for. A header is covered by no metadata: where the operator gave keys, it must
 * be signed by one of them; then it is not fetched again. Metadata that need not be signed say nothing of files.
 * @throws ToolError
 */
export async function addRemoteRepository(
  url: string,
  trust: RpmTrust,
  names: PackageNames,
  maxWorkers: number,
  { contents, progress, skipped, now }: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  if (!isUrl(url)) throw new ToolError('usage', `--remote-rpm-repo ${url}: this is no http or https address`);
  const files = openRepository(url);
  const repomd = await readRepomd(files, trust, now, log);

  progress.start(`Reading metadata of ${url}`);
  const listed = trust.unsignedMetadata ? undefined : await packageFiles(files, repomd, names);
  if (listed !== undefined) {
    for await (const file of listed) {
      progress.advance();
      if (!/^0*$/.test(file.hex)) addRpmFile(file, draft, skipped);
    }
    return;
  }
  const packages: RepositoryPackage[] = [];
  for await (const one of repositoryPackages(files, repomd)) if (names.wants(one.name)) packages.push(one);
  progress.start(`Reading headers of ${url}`, packages.length);
  const signers = await validFingerprints(trust.keys, now);
  const headers = new Map<RepositoryPackage, PackageContent>();
  await forEachLimited(packages, maxWorkers, async (one) => {
    const sum = signers === undefined ? undefined : sumOf(one, signers);
    const known = sum === undefined ? undefined : contents.find(sum, 'rpm', packageContent);
    const header = known ?? (await patiently(() => headerOf(files, one, trust, now)));
    if (sum !== undefined && known === undefined) contents.keep(sum, 'rpm', contentOf(header));
    headers.set(one, header);
    progress.advance();
  });
  for (const one of packages) {
    const header = headers.get(one);
    if (header !== undefined) addRpm(header, draft, skipped);
  }
}

/** Without the header's bytes. */
const contentOf = ({ name, version, files }: PackageContent): PackageContent => ({ name, version, files });

/** Vouches for a header that one of these keys signed, and which is of that package. */
const sumOf = ({ label, algorithm, checksum }: RepositoryPackage, signers: string): string =>
  createHash('sha256').update(`${label}\n${algorithm} ${checksum}\n${signers}`).digest('hex');

async function headerOf(
  files: RepositoryFiles,
  { href, headerEnd, label }: RepositoryPackage,
  { keys }: RpmTrust,
  now: Date,
): Promise<RpmHeader> {
  const reader = new ByteReader(await files.open(href, headerEnd), 'RPM');
  try {
    const header = await readRpmHeader(reader);
    if (keys.length > 0) await verifyHeader(files.show(href), header, keys, now);
    // Old packages, with their holes, are signed as well.
    const found = `${header.name} ${header.version}`;
    if (found === label) return header;
    throw new ToolError(
      'digest_mismatch',
      `The header of ${files.show(href)} is of ${found}, the metadata say ${label}`,
    );
  } finally {
    await reader.close();
  }
}
