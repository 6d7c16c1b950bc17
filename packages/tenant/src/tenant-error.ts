import { CodedError } from '@keylime/core/coded-error';

/** Why a command did not do what was asked. Public: tests and wrappers switch on it. */
export type TenantErrorCode =
  | 'invalid_argument'
  | 'unsupported'
  | 'file_unreadable'
  | 'policy_invalid'
  | 'policy_signature'
  | 'policy_checksum'
  | 'download_failed'
  | 'client_certificate'
  | 'unreachable'
  | 'untrusted_peer'
  | 'no_common_version'
  | 'not_registered'
  | 'not_enrolled'
  | 'conflict'
  | 'ek_rejected'
  | 'quote_rejected'
  | 'payload_invalid'
  | 'payload_refused'
  | 'key_not_derived'
  | 'ca_unusable'
  | 'unexpected_answer'
  | 'gave_up';

/** A command failed; `message` is one line for the operator: what, where, the likely cause, what to do. Exit code 1. */
export class TenantError extends CodedError<TenantErrorCode> {}
