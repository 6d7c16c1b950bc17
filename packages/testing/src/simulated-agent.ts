import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import type { SoftwareAk } from './software-ak.ts';

/** An attester without a TPM: it signs in software and measures what it is told to. */
export type SimulatedAgent = {
  /** `results` of the answer to an integrity quote request. */
  readonly integrityQuote: (query: {
    readonly nonce: string;
    readonly mask: number;
    readonly partial: boolean;
    readonly entry: number;
  }) => Record<string, unknown>;
  /** Appends an entry to the list and extends PCR 10. */
  readonly measure: (path: string, content: Uint8Array) => void;
  /** As after a reboot: an empty list but for the boot aggregate, PCR 10 and the TPM's counts as they then are. */
  readonly reboot: () => void;
};

const IMA_PCR = 10;
const BANK: HashAlgorithm = 'sha256';

/** The digest under which a simulated agent's list starts: no boot PCRs were extended. */
export const SIMULATED_BOOT_AGGREGATE: string = digest(BANK, Buffer.alloc(10 * digestSize(BANK))).toString('hex');

export function simulatedAgent(options: {
  readonly ak: SoftwareAk;
  readonly encAlg: string;
  readonly signAlg: string;
  readonly transportKeyPem: string;
}): SimulatedAgent {
  let lines: string[] = [];
  let pcr: Buffer = Buffer.alloc(digestSize(BANK));
  let resetCount = 0;
  let clock = 0n;

  function record(path: string, fileDigest: Uint8Array): void {
    const measured = recordImaNg(path, BANK, fileDigest);
    lines.push(measured.line);
    pcr = extend(BANK, pcr, measured.extendValue(BANK));
  }
  function reboot(): void {
    lines = [];
    pcr = Buffer.alloc(digestSize(BANK));
    resetCount++;
    record('boot_aggregate', Buffer.from(SIMULATED_BOOT_AGGREGATE, 'hex'));
  }
  reboot();

  return {
    integrityQuote({ nonce, mask, partial, entry }) {
      clock += 1n;
      const from = entry > lines.length ? 0 : entry;
      return {
        quote: options.ak.quote({
          nonce: Buffer.from(nonce),
          mask,
          pcrs: new Map([[IMA_PCR, pcr]]),
          bindingPublicKeyPem: options.transportKeyPem,
          clockInfo: { clock, resetCount, restartCount: 0, safe: true },
        }),
        hash_alg: BANK,
        enc_alg: options.encAlg,
        sign_alg: options.signAlg,
        ...(partial ? {} : { pubkey: options.transportKeyPem }),
        ...((mask >>> IMA_PCR) & 1
          ? { ima_measurement_list: lines.slice(from).join(''), ima_measurement_list_entry: from }
          : {}),
      };
    },
    measure: (path, content) => record(path, digest(BANK, content)),
    reboot,
  };
}
