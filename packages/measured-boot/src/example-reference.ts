import type { NonEmpty } from '@keylime/core/non-empty';
import type { Parsed } from '@keylime/core/parsed';
import type { ReferenceProblem } from './policy.ts';
import type { DatabaseName } from './reference-json.ts';
import { type ReferencePlace, readReference } from './reference-place.ts';
import {
  type Digests,
  readDigest,
  readDigestList,
  readDigests,
  readDigestsByPcr,
  readPattern,
  readSignatures,
  type SignatureSet,
} from './reference-values.ts';
import { STRICT_PCRS } from './strict-reference.ts';
import type { TextPattern } from './text-pattern.ts';

/** A reference state of `example`, decoded: what verifiers of every version read. */
export type ExampleReference = {
  readonly secureBoot: boolean;
  readonly firmware: readonly { readonly scrtm: Digests; readonly blobs: readonly Digests[] }[];
  readonly databases: { readonly [Name in DatabaseName]: SignatureSet };
  readonly vendorDb: SignatureSet;
  readonly mokList: readonly Digests[];
  readonly mokListX: readonly Digests[];
  readonly kernels: readonly ExampleKernel[];
  /** By PCR, of `strict`'s members: for commands and files of GRUB names decide where these list nothing. */
  readonly digests: ReadonlyMap<number, readonly Digests[]>;
};

export type ExampleKernel = {
  /** Shim, GRUB and, with Secure Boot, the kernel. */
  readonly images: readonly Digests[];
  readonly vmlinuz: Digests | undefined;
  readonly initrd: Digests;
  readonly commandLine: TextPattern | undefined;
};

/** Decodes a reference state. [compat] Members that it does not know are passed over. */
export const decodeExampleReference = (json: unknown): Parsed<ExampleReference, NonEmpty<ReferenceProblem>> =>
  readReference(json, readExampleReference);

function readExampleReference(root: ReferencePlace): ExampleReference {
  const secureBoot = root.member('has_secureboot').boolean(true);
  const database = (name: DatabaseName) => readSignatures(root.member(name));
  const kernels = root.member('kernels').alternatives();
  return {
    secureBoot,
    firmware: root
      .member('scrtm_and_bios')
      .alternatives()
      .map((place) => ({
        scrtm: readDigests(place.member('scrtm')),
        blobs: readDigestList(place.member('platform_firmware')),
      })),
    databases: { pk: database('pk'), kek: database('kek'), db: database('db'), dbx: database('dbx') },
    vendorDb: readSignatures(root.member('vendor_db'), true),
    mokList: readDigestList(root.member('mokdig')),
    mokListX: readDigestList(root.member('mokxdig')),
    kernels: kernels.map((place) => readExampleKernel(place, secureBoot)),
    digests: readListed(root, kernels),
  };
}

/** What the reference state lists in all, and each of its kernels: of a PCR that a kernel says nothing of, names decide. */
function readListed(root: ReferencePlace, kernels: readonly ReferencePlace[]): ExampleReference['digests'] {
  const read = (place: ReferencePlace) => readDigestsByPcr(place.member('digests'), STRICT_PCRS);
  const [common, ofKernels] = [read(root), kernels.map(read)];
  const listed = new Map<number, readonly Digests[]>();
  for (const pcr of STRICT_PCRS) {
    const lists = ofKernels.map((each) => each.get(pcr));
    const isListed = common.has(pcr) || lists.every((list) => list !== undefined);
    if (isListed) listed.set(pcr, [...(common.get(pcr) ?? []), ...lists.flatMap((list) => list ?? [])]);
  }
  return listed;
}

function readExampleKernel(place: ReferencePlace, secureBoot: boolean): ExampleKernel {
  place.requireObject();
  const digest = (name: string): Digests => new Map([['sha256', readDigest(place.member(name), 'sha256')]]);
  const vmlinuz = 'vmlinuz_plain_sha256';
  return {
    images: [
      digest('shim_authcode_sha256'),
      digest('grub_authcode_sha256'),
      ...(secureBoot ? [digest('kernel_authcode_sha256')] : []),
    ],
    vmlinuz: !secureBoot || place.member(vmlinuz).isThere ? digest(vmlinuz) : undefined,
    initrd: digest('initrd_plain_sha256'),
    commandLine: readPattern(place.member('kernel_cmdline')),
  };
}
