import { existsSync } from 'node:fs';
import { isJsonObject, type Json } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';
import type { Workshop } from '../digest-files.ts';
import type { LayerEntry } from '../hash-task.ts';
import { addFile, type PolicyDraft } from '../policy-draft.ts';
import { ToolError } from '../tool-error.ts';
import { blobOf, type Descriptor, descriptors, type ImageLayout, openLayout, readLayoutJson } from './blobs.ts';
import { ImageTree } from './image-tree.ts';

const INDEXES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
const MANIFESTS = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const LAYERS =
  /^application\/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar|docker\.image\.rootfs\.diff\.tar)([+.](gzip|zstd))?$/;
/** Of indexes in indexes. */
const MAX_DEPTH = 4;

const ARCHITECTURES: { readonly [node: string]: string } = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** `PLACE` or, as skopeo and umoci have it, `PLACE:NAME` for one of several images. */
function parseImage(text: string): { readonly place: string; readonly refName: string | undefined } {
  const [, place, refName] = existsSync(text) ? [] : (/^(.+):([^:/]+)$/.exec(text) ?? []);
  return place === undefined ? { place: text, refName: undefined } : { place, refName };
}

/**
 * Adds the files of a container image, by their paths in the container. Every blob must have the digest that names it; a
 * layer that had it before is not read again.
 * @throws ToolError
 */
export async function addOciImage(
  image: string,
  platform: string | undefined,
  { algorithm, pool, contents, progress, skipped }: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const { place, refName } = parseImage(image);
  const layout = await openLayout(place);
  const wanted = platform ?? `linux/${ARCHITECTURES[process.arch] ?? process.arch}`;
  const manifest = await findManifest(layout, wanted, refName);
  log.info(`Image manifest ${manifest.digest}`, { image });
  const json = await readLayoutJson(layout, manifest);
  const layers = descriptors(json.layers, `${place}: 'layers' of the manifest`);
  progress.start(`Reading layers of ${place}`, layers.length);
  const entries = await Promise.all(
    layers.map(async (layer) => {
      if (!LAYERS.test(layer.mediaType)) {
        throw new ToolError('archive_unsupported', `${place}: layers of type ${layer.mediaType} are not supported`);
      }
      const { sha256, ...part } = blobOf(layout, layer);
      const kind = `layer_${algorithm}`;
      const known = contents.find(sha256, kind, layerEntries);
      const read = known ?? (await pool.run({ kind: 'layer', part, algorithm, sha256 }));
      if (known === undefined) contents.keep(sha256, kind, read);
      progress.advance();
      return read;
    }),
  );
  const tree = new ImageTree();
  for (const layer of entries) for (const path of tree.add(layer)) skipped.failed('links that lead to no file', path);
  for (const [path, hex] of tree.files()) addFile(draft, path, hex);
}

/** The manifest of a name, if one is given, and a platform: the only one, or the one that says so. */
async function findManifest(layout: ImageLayout, wanted: string, refName: string | undefined): Promise<Descriptor> {
  const found = new Map<string, Descriptor>();
  const names = new Set<string>();
  const collect = async (from: string | Descriptor, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) throw new ToolError('archive_malformed', `${layout.show}: indexes in indexes in indexes`);
    const name = typeof from === 'string' ? from : from.digest;
    const { manifests } = await readLayoutJson(layout, from);
    for (const one of descriptors(manifests, `${layout.show}: 'manifests' of ${name}`)) {
      if (depth === 1 && one.refName !== undefined) names.add(one.refName);
      if (depth === 1 && refName !== undefined && one.refName !== refName) continue;
      if (INDEXES.includes(one.mediaType)) await collect(one, depth + 1);
      // What build tools add about an image says that it is for no platform.
      else if (MANIFESTS.includes(one.mediaType) && one.platform?.os !== 'unknown') found.set(one.digest, one);
    }
  };
  await collect('index.json', 1);
  const candidates = [...found.values()];
  const [first, ...others] = candidates;
  if (first === undefined) {
    const known = names.size > 0 ? `: it has ${[...names].join(', ')}` : '';
    throw new ToolError('not_found', `${layout.show} has no image manifest${refName ? ` ${refName}` : ''}${known}`);
  }
  const matching = candidates.filter((one) => `${platformText(one)}/`.startsWith(`${wanted}/`));
  const [match, ...more] = matching;
  if (match !== undefined && more.length === 0) return match;
  if (others.length === 0 && first.platform === undefined) return first;
  const choice =
    names.size > 1 && refName === undefined
      ? [...names].map((name) => `--oci ${layout.show}:${name}`)
      : candidates.map((one) => (one.platform ? `--oci-platform ${platformText(one)}` : one.digest));
  throw new ToolError(
    'not_found',
    `${layout.show} has ${matching.length === 0 ? 'no image' : 'several images'} for ${wanted}: ` +
      `give one of ${choice.join(', ')}`,
  );
}

const platformText = ({ platform }: Descriptor): string =>
  platform === undefined ? '' : [platform.os, platform.architecture, platform.variant].filter(Boolean).join('/');

/** The entries of a layer as they were kept. */
const layerEntries = (json: Json): readonly LayerEntry[] | undefined =>
  Array.isArray(json) && json.every(isLayerEntry) ? json : undefined;

function isLayerEntry(json: Json): json is LayerEntry {
  if (!isJsonObject(json) || typeof json.path !== 'string') return false;
  switch (json.type) {
    case 'file':
      return typeof json.hex === 'string';
    case 'hard_link':
    case 'symbolic_link':
      return typeof json.target === 'string';
    default:
      return json.type === 'directory' || json.type === 'other';
  }
}
