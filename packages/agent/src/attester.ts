import type { AgentHashAlg, AgentSignAlg } from './agent-data.ts';
import type { QuoteRequest } from './quote-query.ts';

/** The TPM as the server sees it. */
export type Attester = {
  /** PCR bank, and hash of signatures. */
  readonly hashAlg: AgentHashAlg;
  readonly signAlg: AgentSignAlg;
  /** Type and size of the AK by its long name, such as `rsa2048`. */
  readonly encAlg: string;
  /** Handle of the loaded AK. */
  readonly akHandle: () => number;
  /**
   * Binds the payload key to PCR 16 and quotes, in the text form of spec 02 section 3.3; one quote at a time.
   * @throws an `Error` with a `code` if the TPM cannot do it now.
   */
  readonly quote: (request: Pick<QuoteRequest, 'nonce' | 'mask'>) => Promise<string>;
};
