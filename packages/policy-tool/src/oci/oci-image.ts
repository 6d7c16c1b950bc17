import type { Log } from '@keylime/service/log';
import type { Workshop } from '../digest-files.ts';
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

/**
 * Adds the files of a container image, by their paths in the container. Every blob must have the digest that names it.
 * @throws ToolError
 */
export async function addOciImage(
  place: string,
  platform: string | undefined,
  { algorithm, pool, progress, skipped }: Workshop,
  draft: PolicyDraft,
  log: Log,
): Promise<void> {
  const layout = await openLayout(place);
  const wanted = platform ?? `linux/${ARCHITECTURES[process.arch] ?? process.arch}`;
  const manifest = await findManifest(layout, wanted);
  log.info(`Image manifest ${manifest.digest}`, { image: place });
  const json = await readLayoutJson(layout, manifest);
  const layers = descriptors(json.layers, `${place}: 'layers' of the manifest`);
  progress.start(`Reading layers of ${place}`, layers.length);
  const entries = await Promise.all(
    layers.map(async (layer) => {
      if (!LAYERS.test(layer.mediaType)) {
        throw new ToolError('archive_unsupported', `${place}: layers of type ${layer.mediaType} are not supported`);
      }
      const { sha256, ...part } = blobOf(layout, layer);
      const read = await pool.run({ kind: 'layer', part, algorithm, sha256 });
      progress.advance();
      return read;
    }),
  );
  const tree = new ImageTree();
  for (const layer of entries) for (const path of tree.add(layer)) skipped.failed('links that lead to no file', path);
  for (const [path, hex] of tree.files()) addFile(draft, path, hex);
}

/** The manifest for a platform: the only one, or the one that says so. */
async function findManifest(layout: ImageLayout, wanted: string): Promise<Descriptor> {
  const found: Descriptor[] = [];
  const collect = async (from: string | Descriptor, depth: number): Promise<void> => {
    if (depth > MAX_DEPTH) throw new ToolError('archive_malformed', `${layout.show}: indexes in indexes in indexes`);
    const name = typeof from === 'string' ? from : from.digest;
    const { manifests } = await readLayoutJson(layout, from);
    for (const one of descriptors(manifests, `${layout.show}: 'manifests' of ${name}`)) {
      if (INDEXES.includes(one.mediaType)) await collect(one, depth + 1);
      // What build tools add about an image says that it is for no platform.
      else if (MANIFESTS.includes(one.mediaType) && one.platform?.os !== 'unknown') found.push(one);
    }
  };
  await collect('index.json', 1);
  const [first, ...others] = found;
  if (first === undefined) throw new ToolError('not_found', `${layout.show} has no image manifest`);
  const matching = found.filter((one) => platformText(one) === wanted || platformText(one).startsWith(`${wanted}/`));
  const [match, ...more] = matching;
  if (match !== undefined && more.length === 0) return match;
  if (others.length === 0 && first.platform === undefined) return first;
  const platforms = found.map((one) => platformText(one) || one.digest).join(', ');
  throw new ToolError(
    'not_found',
    `${layout.show} has ${matching.length === 0 ? 'no image' : 'several images'} for ${wanted}: ` +
      `name one of ${platforms} with --oci-platform`,
  );
}

const platformText = ({ platform }: Descriptor): string =>
  platform === undefined ? '' : [platform.os, platform.architecture, platform.variant].filter(Boolean).join('/');
