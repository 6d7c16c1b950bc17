import type { StrictKernelJson, StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { ToolError } from '../tool-error.ts';

/**
 * What of a reference state verifiers of every version read: the members of the policy `example`.
 * @throws ToolError `log_unsuitable` where the machine boots in a way that the policy does not know
 */
export function exampleShape(reference: StrictReferenceJson): StrictReferenceJson {
  const { has_secureboot, scrtm_and_bios, pk, kek, db, dbx, vendor_db = [], mokdig, mokxdig, kernels } = reference;
  return {
    ...(has_secureboot !== undefined && { has_secureboot }),
    ...{ scrtm_and_bios, pk, kek, db, dbx, vendor_db, mokdig, mokxdig },
    kernels: kernels.map(exampleKernel),
  };
}

function exampleKernel(kernel: StrictKernelJson): StrictKernelJson {
  const { digests: _, images, load_options, cmdline_in_image, ...known } = kernel;
  if (images === undefined && load_options === undefined && cmdline_in_image === undefined) return known;
  throw new ToolError(
    'log_unsuitable',
    'The policy example is for machines that boot with shim, GRUB and a command line of GRUB: make this one with --policy strict',
  );
}
