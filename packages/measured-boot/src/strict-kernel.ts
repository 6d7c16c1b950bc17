import type { HashAlgorithm } from '@keylime/core/digest';
import { FILE_ALGORITHMS, type StrictKernelJson } from './reference-json.ts';
import type { ReferencePlace } from './reference-place.ts';
import { type Digests, readDigest, readDigests, readDigestsByPcr, readPattern } from './reference-values.ts';
import type { TextPattern } from './text-pattern.ts';

/** One way to boot, decoded: a `StrictKernelJson`. */
export type StrictKernel = {
  /** What PCR 4 has, in order: an Authenticode digest, or any image that somebody whom `authorities` names has signed. */
  readonly images: readonly (Digests | 'signed')[];
  /** Files of PCR 9, each exactly once. */
  readonly files: readonly { readonly name: 'vmlinuz' | 'initrd'; readonly digests: Digests }[];
  readonly commandLine: TextPattern | undefined;
  readonly loadOptions: Digests | undefined;
  /** Events that this boot has to have, by PCR. */
  readonly digests: ReadonlyMap<number, readonly Digests[]>;
};

const STAGES = ['shim_authcode', 'grub_authcode', 'kernel_authcode'] as const;
const FILES = [
  ['vmlinuz', 'vmlinuz_plain'],
  ['initrd', 'initrd_plain'],
] as const;

const OTHER_MEMBERS = ['images', 'kernel_cmdline', 'load_options', 'cmdline_in_image', 'digests'] as const;
const MEMBERS: readonly string[] = [
  ...[...STAGES, ...FILES.map(([, stem]) => stem)].flatMap((stem) => FILE_ALGORITHMS.map((hash) => `${stem}_${hash}`)),
  ...(OTHER_MEMBERS satisfies readonly (keyof StrictKernelJson)[]),
];

/** What boot loaders extend: of these, events may be those of one kernel. */
export const LOADER_PCRS: readonly number[] = [8, 9, 11, 12, 13];

/** Reads a `StrictKernelJson`. */
export function readKernel(place: ReferencePlace): StrictKernel {
  if (place.requireObject()) place.onlyMembers(MEMBERS);
  const pattern = place.member('kernel_cmdline');
  const loadOptions = place.member('load_options');
  if (!pattern.isThere && !loadOptions.isThere && !place.member('cmdline_in_image').boolean(false)) {
    place.refuse(
      'the command line must be told of: kernel_cmdline, a pattern; load_options, a digest; or cmdline_in_image, true',
    );
  }
  return {
    images: readImages(place),
    files: FILES.flatMap(([name, stem]) => {
      const digests = readMembers(place, stem);
      return digests.size === 0 ? [] : [{ name, digests }];
    }),
    commandLine: pattern.isThere ? readPattern(pattern) : undefined,
    loadOptions: loadOptions.isThere ? readDigests(loadOptions) : undefined,
    digests: readDigestsByPcr(place.member('digests'), LOADER_PCRS),
  };
}

function readImages(place: ReferencePlace): StrictKernel['images'] {
  const stages = STAGES.map((stem) => readMembers(place, stem)).filter(({ size }) => size > 0);
  const images = place.member('images');
  if (!images.isThere) {
    if (stages.length === 0) place.refuse('no image: shim_authcode_sha256 and its like are wanted, or images');
    return stages;
  }
  if (stages.length > 0) images.refuse('cannot stand beside shim_authcode_sha256 and its like: write all images here');
  const items = images.items();
  if (items.length === 0) images.refuse('must have at least one image');
  return items.map((item) => (item.json === 'signed' ? 'signed' : readDigests(item)));
}

/** A digest that has one member for each hash, as `initrd_plain_sha256`. */
function readMembers(place: ReferencePlace, stem: string): Digests {
  const digests = new Map<HashAlgorithm, string>();
  for (const algorithm of FILE_ALGORITHMS) {
    const member = place.member(`${stem}_${algorithm}`);
    if (member.isThere) digests.set(algorithm, readDigest(member, algorithm));
  }
  return digests;
}
