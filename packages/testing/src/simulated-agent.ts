import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import type { QuoteOptions, SoftwareAk } from './software-ak.ts';

export type QuoteQuery = {
  readonly nonce: string;
  readonly mask: number;
  readonly partial: boolean;
  readonly entry: number;
};

/** What somebody with root on the machine changes in a truthful answer. */
export type QuoteLies = {
  /** The text of the quote, from what the truthful one would be about. */
  readonly quote?: (truth: QuoteOptions) => string;
  readonly results?: (truth: Readonly<Record<string, unknown>>) => Record<string, unknown>;
};

/** An attester without a TPM: it signs in software and measures what it is told to. */
export type SimulatedAgent = {
  /** `results` of the answer to an integrity quote request. */
  readonly integrityQuote: (query: QuoteQuery, lies?: QuoteLies) => Record<string, unknown>;
  /** Appends an entry to the list and extends PCR 10. */
  readonly measure: (path: string, content: Uint8Array) => void;
  /** Appends any line (with its line feed), and extends PCR 10 with any value, as root can. */
  readonly append: (line: string, extendValue?: Uint8Array) => void;
  /** As after a reboot: an empty list but for the boot aggregate, PCR 10 and the TPM's counts as they then are. */
  readonly reboot: () => void;
  /** The same with no list at all, for kernels that measure in another way. */
  readonly bootWithout: () => void;
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
  function bootWithout(): void {
    lines = [];
    pcr = Buffer.alloc(digestSize(BANK));
    resetCount++;
  }
  function reboot(): void {
    bootWithout();
    record('boot_aggregate', Buffer.from(SIMULATED_BOOT_AGGREGATE, 'hex'));
  }
  reboot();

  return {
    integrityQuote({ nonce, mask, partial, entry }, lies = {}) {
      clock += 1n;
      const from = entry > lines.length ? 0 : entry;
      const quoted: QuoteOptions = {
        nonce: Buffer.from(nonce),
        mask,
        pcrs: new Map([[IMA_PCR, pcr]]),
        bindingPublicKeyPem: options.transportKeyPem,
        clockInfo: { clock, resetCount, restartCount: 0, safe: true },
      };
      const results = {
        quote: (lies.quote ?? options.ak.quote)(quoted),
        hash_alg: BANK,
        enc_alg: options.encAlg,
        sign_alg: options.signAlg,
        ...(partial ? {} : { pubkey: options.transportKeyPem }),
        ...((mask >>> IMA_PCR) & 1
          ? { ima_measurement_list: lines.slice(from).join(''), ima_measurement_list_entry: from }
          : {}),
      };
      return lies.results?.(results) ?? results;
    },
    append(line, extendValue) {
      lines.push(line);
      if (extendValue !== undefined) pcr = extend(BANK, pcr, extendValue);
    },
    measure: (path, content) => record(path, digest(BANK, content)),
    reboot,
    bootWithout,
  };
}
