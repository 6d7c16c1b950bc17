import { CodedError } from '@keylime/core/coded-error';

/** What went wrong with keys, certificates or the CA's folder; stable, for programs to switch on. */
export type PkiErrorCode =
  | 'wrong_password'
  | 'malformed_key_store'
  | 'malformed_key'
  | 'malformed_certificate'
  | 'wrong_key_type'
  | 'key_mismatch'
  | 'certificate_expired'
  | 'ca_incomplete'
  | 'ca_expired'
  | 'invalid_name'
  | 'invalid_serial'
  | 'ca_exists'
  | 'certificate_missing'
  | 'subject_mismatch'
  | 'lock_timeout';

/** A key, certificate or CA folder that cannot be used. The message names the file and what to do, never a secret. */
export class PkiError extends CodedError<PkiErrorCode> {}
