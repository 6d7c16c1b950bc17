import { readdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { readPrivately, writePrivately } from './private-file.ts';
import { isErrno, reason, ToolError } from './tool-error.ts';

/** What a package brings: its regular files with their digests. */
export type PackageContent = {
  readonly name: string;
  readonly version: string;
  readonly files: readonly (readonly [path: string, hex: string])[];
};

/**
 * What is in packages, ramdisks and layers that were read before, by a SHA-256 that vouches for it: that of the whole file, or
 * of all that was verified of it. Who knows that need not read it again.
 */
export type ContentCache = {
  /** `kind` says what was read and how; what `parse` does not take is not there. @throws ToolError `file_unreadable` */
  readonly find: <T>(sha256: string, kind: string, parse: (json: Json) => T | undefined) => T | undefined;
  readonly keep: (sha256: string, kind: string, content: object) => void;
  /** Forgets what nobody has asked for in a long time. @throws ToolError, also if something could not be kept */
  readonly save: () => void;
};

const FORGET_AFTER_MS = 90 * 86_400_000;

export const noContentCache: ContentCache = { find: () => undefined, keep: () => {}, save: () => {} };

/**
 * Opens the cache in a directory that need not exist, one file for each content. Each must be the user's own and writable by
 * nobody else.
 */
export function openContentCache(directory: string, now: () => number = Date.now): ContentCache {
  let problem: unknown;
  const place = (sha256: string, kind: string) => path.join(directory, `${sha256}.${kind}`);
  return {
    find(sha256, kind, parse) {
      const file = place(sha256, kind);
      const json = parseJson(readPrivately(file)?.toString('utf8') ?? '');
      const content = json === undefined ? undefined : parse(json);
      if (content !== undefined) touch(file, now());
      return content;
    },
    keep(sha256, kind, content) {
      if (problem !== undefined) return;
      try {
        writePrivately(place(sha256, kind), JSON.stringify(content));
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

/** What `keep` was given for a package. */
export function packageContent(json: Json): PackageContent | undefined {
  if (!isJsonObject(json)) return undefined;
  const { name, version, files } = json;
  if (typeof name !== 'string' || typeof version !== 'string') return undefined;
  return Array.isArray(files) && files.every(isFile) ? { name, version, files } : undefined;
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
