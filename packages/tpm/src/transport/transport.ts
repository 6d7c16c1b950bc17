import { CodedError } from '@keylime/core/coded-error';

/** A way to a TPM. One command at a time: the caller waits for the answer before it sends the next. */
export type Transport = {
  /** What this leads to, for messages. */
  readonly name: string;
  /**
   * Sends one whole command and resolves to its whole response.
   * @throws TransportError if the TPM cannot be reached (any more), or does not answer within `timeoutMs`.
   */
  readonly transmit: (command: Buffer, options?: { readonly timeoutMs?: number }) => Promise<Buffer>;
  /** Initialises an emulator that waits for it on its control channel. */
  readonly initialise?: () => Promise<void>;
  readonly close: () => Promise<void>;
};

export type TransportErrorCode =
  | 'tcti_malformed'
  | 'tcti_unsupported'
  | 'tpm_device_missing'
  | 'tpm_device_permission'
  | 'tpm_device_busy'
  | 'tpm_device_failed'
  | 'tpm_emulator_unreachable'
  | 'tpm_emulator_busy'
  | 'tpm_connection_lost'
  | 'tpm_response_malformed';

/** The TPM cannot be reached; the message says what to do. */
export class TransportError extends CodedError<TransportErrorCode> {}

/** A TPM's buffer: no command or response is longer (Linux drivers/char/tpm, TPM_BUFSIZE). */
export const MAX_RESPONSE_BYTES = 4096;

/** Size of a command or response as its header says it, once the header is there. */
export function announcedSize(header: Buffer): number | undefined {
  return header.length < 6 ? undefined : header.readUInt32BE(2);
}
