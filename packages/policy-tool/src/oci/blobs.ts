import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { ByteReader } from '../archive/byte-reader.ts';
import { tarEntries } from '../archive/tar.ts';
import type { FilePart } from '../hash-task.ts';
import { isErrno, reason, ToolError } from '../tool-error.ts';

/** What points at a blob: `sha256:<hex>`, and what it is. Source: OCI image specification 1.1, descriptor.md. */
export type Descriptor = {
  readonly mediaType: string;
  readonly digest: string;
  readonly platform?: { readonly os: string; readonly architecture: string; readonly variant?: string };
  /** Name that the layout has for an image. */
  readonly refName?: string;
};

/** An image layout: a directory, or the same in a tar archive. */
export type ImageLayout = {
  /** Where a file of the layout lies. @throws ToolError `not_found` */
  readonly find: (name: string) => FilePart | undefined;
  readonly show: string;
};

const MAX_JSON_BYTES = 16 << 20;

/** @throws ToolError `not_found`, `archive_malformed` */
export async function openLayout(place: string): Promise<ImageLayout> {
  try {
    if ((await stat(place)).isDirectory()) {
      return { show: place, find: (name) => ({ file: path.join(place, name) }) };
    }
    const parts = new Map<string, FilePart>();
    const reader = new ByteReader(createReadStream(place, { highWaterMark: 1 << 20 }), 'tar');
    for await (const entry of tarEntries(reader)) {
      if (entry.type === 'file') {
        parts.set(entry.path, { file: place, offset: reader.position, sizeBytes: entry.sizeBytes });
      }
    }
    return { show: place, find: (name) => parts.get(name) };
  } catch (error) {
    if (error instanceof ToolError) {
      throw new ToolError(error.code, `${place}: ${error.message} (an image is a directory or a plain tar archive)`, {
        cause: error,
      });
    }
    throw new ToolError('not_found', `Cannot read the image ${place}: ${reason(error)}`, { cause: error });
  }
}

/** Where a blob lies, by its digest. @throws ToolError `archive_malformed`, `not_found` */
export function blobOf(layout: ImageLayout, { digest }: Descriptor): FilePart & { readonly sha256: string } {
  const [, sha256] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  if (sha256 === undefined) {
    throw new ToolError(
      'archive_unsupported',
      `${layout.show}: digests like ${digest.slice(0, 100)} are not supported`,
    );
  }
  const part = layout.find(`blobs/sha256/${sha256}`);
  if (part === undefined) throw new ToolError('not_found', `${layout.show} has no blob ${digest}`);
  return { ...part, sha256 };
}

/** A JSON file of the layout, after its digest was found right if it has one. @throws ToolError */
export async function readLayoutJson(
  layout: ImageLayout,
  from: string | Descriptor,
): Promise<{ readonly [key: string]: Json }> {
  const part = typeof from === 'string' ? layout.find(from) : blobOf(layout, from);
  const name = typeof from === 'string' ? from : from.digest;
  const bytes = part && (await readPart(part, `${layout.show}: ${name}`));
  if (bytes === undefined) {
    const hint = '(skopeo copies images of other kinds into one: skopeo copy docker-archive:FILE oci:DIRECTORY)';
    throw new ToolError('not_found', `${layout.show} is no OCI image layout: there is no ${name} ${hint}`);
  }
  const actual = createHash('sha256').update(bytes).digest('hex');
  if (typeof from !== 'string' && `sha256:${actual}` !== from.digest) {
    throw new ToolError('digest_mismatch', `${layout.show}: blob ${from.digest} has the SHA-256 ${actual}`);
  }
  const json = parseJson(bytes.toString('utf8'));
  if (isJsonObject(json)) return json;
  throw new ToolError('archive_malformed', `${layout.show}: ${name} is not a JSON object`);
}

async function readPart({ file, offset = 0, sizeBytes }: FilePart, what: string): Promise<Buffer | undefined> {
  try {
    const size = sizeBytes ?? (await stat(file)).size;
    if (size > MAX_JSON_BYTES) throw new ToolError('archive_malformed', `${what} is too large for what it should be`);
    if (sizeBytes === undefined) return await readFile(file);
    const handle = await open(file);
    try {
      return (await handle.read(Buffer.alloc(size), 0, size, offset)).buffer;
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    if (error instanceof ToolError) throw error;
    throw new ToolError('file_unreadable', `Cannot read ${what}: ${reason(error)}`, { cause: error });
  }
}

/** The descriptors in a list of JSON; what is none is refused. */
export function descriptors(value: Json | undefined, where: string): readonly Descriptor[] {
  if (!Array.isArray(value)) throw new ToolError('archive_malformed', `${where} is not a list of descriptors`);
  return (value as readonly Json[]).map((item) => {
    if (!isJsonObject(item) || typeof item.digest !== 'string' || typeof item.mediaType !== 'string') {
      throw new ToolError('archive_malformed', `${where} has an element that is no descriptor`);
    }
    const { mediaType, digest, platform, annotations } = item;
    const refName = isJsonObject(annotations) ? annotations['org.opencontainers.image.ref.name'] : undefined;
    const named = { mediaType, digest, ...(typeof refName === 'string' && { refName }) };
    if (!isJsonObject(platform)) return named;
    const { os, architecture, variant } = platform;
    if (typeof os !== 'string' || typeof architecture !== 'string') return named;
    return { ...named, platform: { os, architecture, ...(typeof variant === 'string' && { variant }) } };
  });
}
