import { CodedError } from '@keylime/core/coded-error';

/** Why a command stops. `code` is stable, the message is for the person who typed the command. */
export type ToolErrorCode =
  | 'usage'
  | 'file_unreadable'
  | 'file_unwritable'
  | 'not_found'
  | 'policy_invalid'
  | 'policy_signature'
  | 'algorithm_mismatch'
  | 'list_invalid'
  | 'event_log_invalid'
  | 'pcrs_invalid'
  | 'image_invalid'
  | 'log_unsuitable'
  | 'reference_invalid'
  | 'boot_not_accepted'
  | 'archive_malformed'
  | 'archive_unsupported'
  | 'program_missing'
  | 'digest_mismatch'
  | 'repository_invalid'
  | 'repository_signature'
  | 'download_failed'
  | 'key_invalid'
  | 'skipped'
  | 'worker_failed';

/** Something that the operator gave cannot be used, or something around the program is not as it must be. */
export class ToolError extends CodedError<ToolErrorCode> {}

/** The reason in an error of the operating system, without the path, which the message around it names. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? error.code : undefined;
  switch (code) {
    case 'ENOENT':
      return 'there is no such file or directory';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ENOTDIR':
      return 'it is not a directory';
    default:
      return error.message;
  }
}

/** Whether an error of the operating system has that code. */
export const isErrno = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code);
