import type { HashAlgorithm } from '@keylime/core/digest';
import type { Ak } from '@keylime/tpm/ak';
import type { SigningAlgorithm } from '@keylime/tpm/algorithms';
import type { AgentHashAlg, AgentSignAlg } from './agent-data.ts';

/** The TPM of this machine with its AK, as those see it who attest with it. One thing at a time is asked of it. */
export type Attester = {
  /** PCR bank, and hash of signatures. */
  readonly hashAlg: AgentHashAlg;
  readonly signAlg: AgentSignAlg;
  /** Type and size of the AK by its long name, such as `rsa2048`. */
  readonly encAlg: string;
  /** Handle of the loaded AK. */
  readonly akHandle: () => number;
  /**
   * Quotes the PCRs of `mask`, in the text form of spec 02 section 3.3, and PCR 16 bound to `bindingPublicKeyPem` beside them
   * if there is one.
   * @throws an `Error` with a `code` if the TPM cannot do it now.
   */
  readonly quote: (request: {
    readonly nonce: Uint8Array;
    readonly mask: number;
    readonly bindingPublicKeyPem?: string;
  }) => Promise<string>;
};

/** What a TPM can do, and its AK. */
export type TpmAbilities = {
  /** PCR banks in use, each with the mask of its PCRs. */
  readonly banks: ReadonlyMap<HashAlgorithm, number>;
  readonly signing: readonly SigningAlgorithm[];
  readonly ak: Pick<Ak, 'public' | 'name'>;
};

/** What push attestation needs of the TPM besides. */
export type PushAttester = Attester & {
  readonly abilities: () => Promise<TpmAbilities>;
  /**
   * The AK's statement about itself (TPM2_Certify) for `qualifyingData`: TPMS_ATTEST without its size, and TPMT_SIGNATURE.
   * @throws an `Error` with a `code` if the TPM cannot do it now.
   */
  readonly certifyAk: (qualifyingData: Uint8Array) => Promise<{ readonly attest: Buffer; readonly signature: Buffer }>;
};
