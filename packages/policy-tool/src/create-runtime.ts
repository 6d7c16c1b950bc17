import os from 'node:os';
import path from 'node:path';
import { type HashAlgorithm, isHashAlgorithm } from '@keylime/core/digest';
import type { Log } from '@keylime/service/log';
import { importBaseKeys, importBasePolicy } from './base-policy.ts';
import { type ContentCache, noContentCache, openContentCache } from './content-cache.ts';
import { addDebSources } from './deb/deb-sources.ts';
import { type AlgorithmSource, chooseAlgorithm } from './digest-algorithm.ts';
import type { Workshop } from './digest-files.ts';
import { readInput, readJson } from './files.ts';
import { type HashCache, noCache, openHashCache } from './hash-cache.ts';
import { openHashPool } from './hash-pool.ts';
import { importMeasurementList } from './measured-files.ts';
import { readMeasurementList } from './measurement-list.ts';
import { addOciImage } from './oci/oci-image.ts';
import { readOpenPgpKeys } from './open-pgp.ts';
import { packageNames } from './package-names.ts';
import { importAllowlist, importExcludeList } from './plain-lists.ts';
import {
  addFile,
  addKeys,
  allowsNothing,
  emptyDraft,
  legacyAllowlist,
  type PolicyDraft,
  policyText,
} from './policy-draft.ts';
import type { Progress } from './progress.ts';
import { digestRamdisks } from './ramdisks.ts';
import { digestRootFileSystem } from './root-file-system.ts';
import { addLocalRepository } from './rpm/local-repository.ts';
import { addRemoteRepository } from './rpm/remote-repository.ts';
import { countSkipped } from './skipped.ts';
import { ToolError } from './tool-error.ts';
import { readVerificationKeys } from './verification-keys.ts';

/** The options of `create runtime`, by their long names. */
export type CreateOptions = {
  readonly basePolicy?: string;
  readonly allowlist?: string;
  readonly excludelist?: string;
  /** File of the measurement list, ASCII or binary. */
  readonly imaMeasurementList?: string;
  readonly keyrings?: boolean;
  readonly imaBuf?: boolean;
  readonly ignoredKeyrings?: readonly string[];
  readonly addImaSignatureVerificationKey?: readonly string[];
  readonly algo?: string;
  readonly rootfs?: string;
  readonly skipPath?: string;
  readonly anyOwner?: boolean;
  readonly ramdiskDir?: string;
  readonly localRpmRepo?: string;
  readonly remoteRpmRepo?: string;
  readonly rpmKey?: readonly string[];
  readonly rpmUnsignedMetadata?: boolean;
  readonly rpmPackage?: readonly string[];
  readonly maxWorkers: number;
  readonly deb?: readonly string[];
  readonly debKeyring?: readonly string[];
  readonly debArch?: string;
  readonly debPackage?: readonly string[];
  readonly debAcceptExpired?: boolean;
  readonly oci?: readonly string[];
  readonly ociPlatform?: string;
  /** File; `false` for none. */
  readonly cache?: string | false;
  readonly threads?: number;
  readonly failOnSkip?: boolean;
  readonly showLegacyAllowlist?: boolean;
};

export type CreateEnvironment = {
  readonly log: Log;
  readonly progress: Progress;
  readonly env: { readonly [name: string]: string | undefined };
  readonly now: () => Date;
};

/**
 * Makes a runtime policy of everything that the options name, in this order: base policy, allowlist, measurement list,
 * root file system, initial ramdisks, RPM repositories, Debian packages, container images.
 * @throws ToolError
 */
export async function createRuntimePolicy(options: CreateOptions, environment: CreateEnvironment): Promise<string> {
  const { log, progress, now } = environment;
  const draft = emptyDraft();
  const skipped = countSkipped();
  for (const name of options.ignoredKeyrings ?? []) draft.ignoredKeyrings.add(name);
  const sources: AlgorithmSource[] = algoOption(options.algo);
  if (options.basePolicy !== undefined) {
    const { json } = await readJson(options.basePolicy, 'base policy');
    sources.push(...importBasePolicy(json, draft));
  }
  if (options.allowlist !== undefined) {
    const text = (await readInput(options.allowlist, 'allowlist')).toString('utf8');
    sources.push(...importAllowlist(text, draft, log));
  }
  if (options.excludelist !== undefined) {
    importExcludeList((await readInput(options.excludelist, 'exclude list')).toString('utf8'), draft, log);
  }
  if (options.imaMeasurementList !== undefined) {
    const { lines } = await readMeasurementList(options.imaMeasurementList);
    const { keyrings = false, imaBuf = false } = options;
    sources.push(...importMeasurementList(lines, draft, { keyrings, buffers: imaBuf }, skipped));
  }
  const algorithm = chooseAlgorithm(sources, log);
  if (options.addImaSignatureVerificationKey !== undefined) {
    importBaseKeys(draft);
    addKeys(draft, await readVerificationKeys(options.addImaSignatureVerificationKey));
  }

  const pool = openHashPool(options.threads);
  const { cache, contents } = cachesOf(options, environment);
  try {
    await addSystems(options, { algorithm, pool, cache, contents, progress, skipped, now: now() }, draft, log);
    for (const one of [cache, contents]) saveCache(one, log);
  } finally {
    progress.stop();
    await pool.close();
  }
  skipped.report(log, options.failOnSkip ?? false);
  if (allowsNothing(draft)) log.warn('The policy allows nothing: no source was given that says what is right');
  return options.showLegacyAllowlist ? legacyAllowlist(draft) : policyText(draft, now(), log);
}

async function addSystems(options: CreateOptions, workshop: Workshop, draft: PolicyDraft, log: Log): Promise<void> {
  const { rootfs, ramdiskDir, localRpmRepo, remoteRpmRepo, deb, oci } = options;
  if (options.algo !== undefined && rootfs === undefined && ramdiskDir === undefined && !deb && !oci) {
    log.warn('--algo is of use only with --rootfs, --ramdisk-dir, --deb or --oci');
  }
  if (rootfs !== undefined) {
    const skipPaths = (options.skipPath ?? '').split(',').filter((one) => one !== '');
    const tree = { directory: rootfs, skipPaths, anyOwner: options.anyOwner ?? false };
    const files = await digestRootFileSystem(tree, workshop, log);
    for (const { name, hex } of files) addFile(draft, name, hex);
    if (files.length === 0) {
      log.warn(`No file of ${rootfs} was taken: for a tree that does not belong to root, give --any-owner`);
    }
  } else if (options.skipPath !== undefined) log.warn('--skip-path is of use only with --rootfs');
  if (ramdiskDir !== undefined) {
    for (const { name, hex } of await digestRamdisks(ramdiskDir, workshop)) addFile(draft, name, hex);
  }
  const { rpmKey = [], rpmUnsignedMetadata: unsignedMetadata = false } = options;
  if (unsignedMetadata && rpmKey.length === 0) {
    throw new ToolError('usage', '--rpm-unsigned-metadata needs --rpm-key: the key that packages must be signed with');
  }
  const rpms = packageNames(options.rpmPackage);
  const trust = { keys: await readOpenPgpKeys(rpmKey), unsignedMetadata };
  if (localRpmRepo !== undefined) await addLocalRepository(localRpmRepo, trust, rpms, workshop, draft, log);
  if (remoteRpmRepo !== undefined) {
    await addRemoteRepository(remoteRpmRepo, trust, rpms, options.maxWorkers, workshop, draft, log);
  }
  rpms.requireAll([localRpmRepo, remoteRpmRepo].filter((one) => one !== undefined).join(' and '));
  if (deb) {
    const {
      debKeyring: keyrings = [],
      debArch: architecture,
      debPackage: packages = [],
      debAcceptExpired: acceptExpired = false,
      maxWorkers,
    } = options;
    await addDebSources(deb, { keyrings, architecture, packages, maxWorkers, acceptExpired }, workshop, draft, log);
  }
  for (const image of oci ?? []) await addOciImage(image, options.ociPlatform, workshop, draft, log);
}

function algoOption(algo: string | undefined): AlgorithmSource[] {
  if (algo === undefined) return [];
  const algorithm: HashAlgorithm | undefined = isHashAlgorithm(algo) ? algo : undefined;
  return [{ name: '--algo option', algorithm }];
}

/** What was digested is good without the cache, too: only the next run takes longer. */
function saveCache(cache: { readonly save: () => void }, log: Log): void {
  try {
    cache.save();
  } catch (error) {
    if (!(error instanceof ToolError)) throw error;
    log.warn(error.message);
  }
}

function cachesOf(
  { cache, rootfs, ramdiskDir, deb, oci, localRpmRepo, remoteRpmRepo }: CreateOptions,
  { env, now }: CreateEnvironment,
): { readonly cache: HashCache; readonly contents: ContentCache } {
  const isOfUse = [rootfs, ramdiskDir, deb, oci, localRpmRepo, remoteRpmRepo].some((source) => source !== undefined);
  if (cache === false || !isOfUse) return { cache: noCache, contents: noContentCache };
  const home = env.XDG_CACHE_HOME || path.join(env.HOME || os.homedir(), '.cache');
  const file = cache ?? path.join(home, 'keylime-policy', 'digests');
  const nowMs = () => now().getTime();
  return { cache: openHashCache(file, nowMs), contents: openContentCache(`${file}.packages`, nowMs) };
}
