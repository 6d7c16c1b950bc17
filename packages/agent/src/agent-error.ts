import { CodedError } from '@keylime/core/coded-error';

/** Why the agent cannot start or go on; stable, for programs to switch on. */
export type AgentErrorCode =
  | 'action_unavailable'
  | 'agent_id_malformed'
  | 'algorithm_unsupported'
  | 'api_version_unsupported'
  | 'certificate_malformed'
  | 'certificate_mismatch'
  | 'client_ca_unusable'
  | 'file_unreadable'
  | 'list_changing'
  | 'list_position_unknown'
  | 'password_malformed'
  | 'pcr_bank_inactive'
  | 'payload_key_unusable'
  | 'payload_settings'
  | 'privileges'
  | 'secure_mount'
  | 'tpm_identity_changed'
  | 'registration_failed'
  | 'registration_refused';

/** Something that the operator has to put right; the message says what. */
export class AgentError extends CodedError<AgentErrorCode> {}
