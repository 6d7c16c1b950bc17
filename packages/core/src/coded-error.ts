/**
 * An error that programs tell from others by its `code`, which is stable; the message is for people. A subclass says of
 * what it is, and names its codes: `class PkiError extends CodedError<PkiErrorCode> {}`.
 */
export class CodedError<Code extends string> extends Error {
  readonly code: Code;
  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The `code` of an error, whether it is ours, Node's or the operating system's, such as `ENOENT`. */
export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
