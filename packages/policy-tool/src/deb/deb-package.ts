import { createHash } from 'node:crypto';
import { type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { arMembers } from '../archive/ar.ts';
import { ByteReader } from '../archive/byte-reader.ts';
import { decompressed } from '../archive/compression.ts';
import { tarEntries } from '../archive/tar.ts';
import type { PackageContent } from '../content-cache.ts';
import { ToolError } from '../tool-error.ts';
import { paragraphs } from './deb-control.ts';

const MAX_CONTROL_BYTES = 16 << 20;

/**
 * Reads a `.deb` to its end. Source: deb(5): `debian-binary`, `control.tar*`, `data.tar*` in this order.
 * @throws ToolError `archive_malformed`, `archive_unsupported`, `program_missing`
 */
export async function readDeb(source: AsyncIterable<Uint8Array>, algorithm: HashAlgorithm): Promise<PackageContent> {
  const reader = new ByteReader(source, 'deb');
  let control: Omit<PackageContent, 'files'> | undefined;
  let files: PackageContent['files'] | undefined;
  for await (const { name, content } of arMembers(reader)) {
    if (name === 'debian-binary') {
      const chunks: Buffer[] = [];
      for await (const chunk of content) chunks.push(Buffer.from(chunk));
      const version = Buffer.concat(chunks).toString('latin1').trim();
      if (!/^2\.\d+$/.test(version)) throw unsupported(`packages of format ${JSON.stringify(version.slice(0, 20))}`);
    } else if (/^control\.tar(\.\w+)?$/.test(name)) {
      control = await readControl(content);
    } else if (/^data\.tar(\.\w+)?$/.test(name)) {
      files = await readData(content, algorithm);
    }
  }
  if (control === undefined || files === undefined) {
    throw new ToolError('archive_malformed', 'It is no Debian package: control.tar or data.tar is missing');
  }
  return { ...control, files };
}

async function readControl(content: AsyncIterable<Uint8Array>): Promise<Omit<PackageContent, 'files'> | undefined> {
  let control: Omit<PackageContent, 'files'> | undefined;
  for await (const entry of tarEntries(new ByteReader(decompressed(content), 'tar'))) {
    if (entry.path !== 'control' || entry.type !== 'file') continue;
    if (entry.sizeBytes > MAX_CONTROL_BYTES) throw new ToolError('archive_malformed', 'Its control file is too large');
    const chunks: Buffer[] = [];
    await entry.content((piece) => chunks.push(Buffer.from(piece)));
    const [fields] = paragraphs(Buffer.concat(chunks).toString('utf8'));
    const [name, version] = [fields?.get('package'), fields?.get('version')];
    if (name === undefined || version === undefined) {
      throw new ToolError('archive_malformed', 'Its control file has no Package or no Version');
    }
    control = { name, version };
  }
  return control;
}

async function readData(
  content: AsyncIterable<Uint8Array>,
  algorithm: HashAlgorithm,
): Promise<PackageContent['files']> {
  const digests = new Map<string, string>();
  for await (const entry of tarEntries(new ByteReader(decompressed(content), 'tar'))) {
    if (entry.type === 'file') {
      const hash = createHash(opensslName(algorithm));
      await entry.content((piece) => hash.update(piece));
      digests.set(entry.path, hash.digest('hex'));
    } else if (entry.type === 'hard_link') {
      const target = digests.get(entry.target.replace(/^(?:\.?\/+)+/, ''));
      if (target === undefined) throw new ToolError('archive_malformed', `A link leads nowhere: ${entry.path}`);
      digests.set(entry.path, target);
    }
  }
  return [...digests].map(([path, hex]) => [decodeUtf8(Buffer.from(`/${path}`, 'latin1')), hex]);
}

const unsupported = (what: string): ToolError => new ToolError('archive_unsupported', `${what} are not supported`);
