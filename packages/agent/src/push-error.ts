import { CodedError } from '@keylime/core/coded-error';

/** Why one attempt to attest came to nothing; stable, for programs to switch on. */
export type PushErrorCode =
  /** No answer came. */
  | 'verifier_unreachable'
  /** The verifier cannot answer now, or wants to be left alone for a while. */
  | 'verifier_busy'
  /** What came is not what the protocol says. */
  | 'answer_malformed'
  /** No session: the agent is not enrolled, or with another AK; the verifier does not tell which. */
  | 'not_admitted'
  /** The verifier takes no attestation of this agent. */
  | 'attestation_refused'
  /** The verifier does not want what this TPM can do. */
  | 'capabilities_refused'
  /** The verifier does not take the evidence as it came; nothing is said about whether the machine is in order. */
  | 'evidence_refused'
  /** The agent has not got what the verifier wants. */
  | 'evidence_unavailable';

/** An attempt that came to nothing, and is made again. `afterMs` is how long the verifier wants to be left alone. */
export class PushError extends CodedError<PushErrorCode> {
  readonly afterMs: number | undefined;

  constructor(
    code: PushErrorCode,
    message: string,
    options: ErrorOptions & { readonly afterMs?: number | undefined } = {},
  ) {
    super(code, message, options);
    this.afterMs = options.afterMs;
  }
}
