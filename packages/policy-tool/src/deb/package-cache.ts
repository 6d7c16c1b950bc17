import { readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import type { HashAlgorithm } from '@keylime/core/digest';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { readPrivately, writePrivately } from '../private-file.ts';
import { isErrno, reason, ToolError } from '../tool-error.ts';
import type { DebPackage } from './deb-package.ts';

/** What packages bring that were read before, by the SHA-256 of the whole package: who knows that need not read it again. */
export type PackageCache = {
  readonly find: (sha256: string, algorithm: HashAlgorithm) => DebPackage | undefined;
  readonly keep: (sha256: string, algorithm: HashAlgorithm, deb: DebPackage) => void;
  /** Forgets what nobody has asked for in a long time. @throws ToolError, also if something could not be kept */
  readonly save: () => void;
};

const FORGET_AFTER_MS = 90 * 86_400_000;

export const noPackageCache: PackageCache = { find: () => undefined, keep: () => {}, save: () => {} };

/**
 * Opens the cache in a directory that need not exist, one file for each package. Each must be the user's own and writable by
 * nobody else; one that cannot be read as a package is none.
 * @throws ToolError `file_unreadable`
 */
export function openPackageCache(directory: string, now: () => number = Date.now): PackageCache {
  let problem: unknown;
  const place = (sha256: string, algorithm: string) => path.join(directory, `${sha256}.${algorithm}`);
  return {
    find(sha256, algorithm) {
      const file = place(sha256, algorithm);
      const deb = packageOf(parseJson(readPrivately(file)?.toString('utf8') ?? ''));
      if (deb !== undefined) touch(file, now());
      return deb;
    },
    keep(sha256, algorithm, deb) {
      if (problem !== undefined) return;
      try {
        writePrivately(place(sha256, algorithm), JSON.stringify(deb));
      } catch (error) {
        problem = error;
      }
    },
    save() {
      if (problem !== undefined) throw problem;
      forgetOld(directory, now());
    },
  };
}

function forgetOld(directory: string, nowMs: number): void {
  try {
    for (const name of readdirSync(directory)) {
      const file = path.join(directory, name);
      const usedMs = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? nowMs;
      if (/^[0-9a-f]{64}\.\w+$/.test(name) && nowMs - usedMs > FORGET_AFTER_MS) rmSync(file, { force: true });
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    throw new ToolError('file_unwritable', `Cannot tidy the cache ${directory}: ${reason(error)}`, { cause: error });
  }
}

function packageOf(json: Json | undefined): DebPackage | undefined {
  if (!isJsonObject(json)) return undefined;
  const { name, version, architecture, files } = json;
  if (typeof name !== 'string' || typeof version !== 'string' || typeof architecture !== 'string') return undefined;
  return Array.isArray(files) && files.every(isFile) ? { name, version, architecture, files } : undefined;
}

const isFile = (item: Json): item is [path: string, hex: string] =>
  Array.isArray(item) && item.length === 2 && item.every((one) => typeof one === 'string');

/** When it was asked for last: a cache that cannot be written is of use nevertheless. */
function touch(file: string, nowMs: number): void {
  try {
    utimesSync(file, nowMs / 1000, nowMs / 1000);
  } catch (error) {
    if (!isErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOENT')) throw error;
  }
}
