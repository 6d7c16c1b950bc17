/** TPM_RC (TPM 2.0 Part 2 r1.59, 6.6): names of format-0 errors (0x100), format-1 errors (0x080) and warnings (0x900). */
const ERRORS: Readonly<Record<number, string>> = {
  0: 'INITIALIZE',
  1: 'FAILURE',
  3: 'SEQUENCE',
  11: 'PRIVATE',
  25: 'HMAC',
  32: 'DISABLED',
  33: 'EXCLUSIVE',
  36: 'AUTH_TYPE',
  37: 'AUTH_MISSING',
  38: 'POLICY',
  39: 'PCR',
  40: 'PCR_CHANGED',
  45: 'UPGRADE',
  46: 'TOO_MANY_CONTEXTS',
  47: 'AUTH_UNAVAILABLE',
  48: 'REBOOT',
  49: 'UNBALANCED',
  66: 'COMMAND_SIZE',
  67: 'COMMAND_CODE',
  68: 'AUTHSIZE',
  69: 'AUTH_CONTEXT',
  70: 'NV_RANGE',
  71: 'NV_SIZE',
  72: 'NV_LOCKED',
  73: 'NV_AUTHORIZATION',
  74: 'NV_UNINITIALIZED',
  75: 'NV_SPACE',
  76: 'NV_DEFINED',
  80: 'BAD_CONTEXT',
  81: 'CPHASH',
  82: 'PARENT',
  83: 'NEEDS_TEST',
  84: 'NO_RESULT',
  85: 'SENSITIVE',
};
const FORMAT_1: Readonly<Record<number, string>> = {
  1: 'ASYMMETRIC',
  2: 'ATTRIBUTES',
  3: 'HASH',
  4: 'VALUE',
  5: 'HIERARCHY',
  7: 'KEY_SIZE',
  8: 'MGF',
  9: 'MODE',
  10: 'TYPE',
  11: 'HANDLE',
  12: 'KDF',
  13: 'RANGE',
  14: 'AUTH_FAIL',
  15: 'NONCE',
  16: 'PP',
  18: 'SCHEME',
  21: 'SIZE',
  22: 'SYMMETRIC',
  23: 'TAG',
  24: 'SELECTOR',
  26: 'INSUFFICIENT',
  27: 'SIGNATURE',
  28: 'KEY',
  29: 'POLICY_FAIL',
  31: 'INTEGRITY',
  32: 'TICKET',
  33: 'RESERVED_BITS',
  34: 'BAD_AUTH',
  35: 'EXPIRED',
  36: 'POLICY_CC',
  37: 'BINDING',
  38: 'CURVE',
  39: 'ECC_POINT',
};
const WARNINGS: Readonly<Record<number, string>> = {
  1: 'CONTEXT_GAP',
  2: 'OBJECT_MEMORY',
  3: 'SESSION_MEMORY',
  4: 'MEMORY',
  5: 'SESSION_HANDLES',
  6: 'OBJECT_HANDLES',
  7: 'LOCALITY',
  8: 'YIELDED',
  9: 'CANCELED',
  10: 'TESTING',
  32: 'NV_RATE',
  33: 'LOCKOUT',
  34: 'RETRY',
  35: 'NV_UNAVAILABLE',
};

/** A response code, taken apart. */
export type ResponseCode = {
  readonly value: number;
  /** Such as `TPM_RC_SIZE`; a code that Part 2 does not list is `TPM_RC_UNKNOWN`. */
  readonly name: string;
  /** What a format-1 error is about; numbers start at 1, 0 means that the TPM did not say which. */
  readonly about?: { readonly kind: 'handle' | 'parameter' | 'session'; readonly number: number };
};

/** Takes a response code apart. Bits above 15 (the layer that answered, such as a resource manager) are kept in `value` only. */
export function parseResponseCode(value: number): ResponseCode {
  const code = value & 0xffff;
  const named = (name: string | undefined) => (name === undefined ? 'TPM_RC_UNKNOWN' : `TPM_RC_${name}`);
  if ((code & 0x80) !== 0) {
    const number = (code >> 8) & 0xf;
    const name = named(FORMAT_1[code & 0x3f]);
    if ((code & 0x40) !== 0) return { value, name, about: { kind: 'parameter', number } };
    return { value, name, about: { kind: number >= 8 ? 'session' : 'handle', number: number & 7 } };
  }
  if ((code & 0x100) === 0) return { value, name: code === 0x1e ? 'TPM_RC_BAD_TAG' : 'TPM_RC_UNKNOWN' };
  return { value, name: named(((code & 0x800) !== 0 ? WARNINGS : ERRORS)[code & 0x7f]) };
}

/** Codes after which the same command may be sent again at once or a little later. */
export const isRetry = (value: number): boolean => [0x908, 0x90a, 0x922].includes(value);

const ADVICE: Readonly<Record<string, string>> = {
  TPM_RC_INITIALIZE: 'the TPM was not started, or was started already',
  TPM_RC_FAILURE: 'the TPM failed its self-test or, if it is an emulator, was not initialised; restart it',
  TPM_RC_OBJECT_MEMORY: 'no room for another key: flush transient objects (tpm2_flushcontext -t) or use /dev/tpmrm0',
  TPM_RC_SESSION_MEMORY: 'no room for another session: flush loaded sessions (tpm2_flushcontext -l) or use /dev/tpmrm0',
  TPM_RC_COMMAND_CODE: 'this TPM does not implement the command',
  TPM_RC_LOCKOUT:
    'the TPM is locked against guessing of passwords; wait, or clear the lockout (tpm2_dictionarylockout -c)',
  TPM_RC_NV_RATE: 'the TPM protects its flash memory; try again later',
  TPM_RC_AUTH_FAIL: 'the password is wrong; if it is the hierarchy’s, check tpm_ownerpassword',
  TPM_RC_BAD_AUTH: 'the password is wrong; if it is the hierarchy’s, check tpm_ownerpassword',
  TPM_RC_HANDLE: 'there is no such key or index',
  TPM_RC_SCHEME: 'the signing scheme is not the key’s own, or the TPM has no such scheme',
  TPM_RC_SIZE: 'the value is too long for this TPM',
  TPM_RC_CURVE: 'this TPM does not have the curve',
  TPM_RC_VALUE: 'this TPM does not take the value, often a key size or an algorithm',
  TPM_RC_HASH: 'this TPM does not have the hash algorithm',
  TPM_RC_INTEGRITY: 'the blob was made for another key or another TPM',
  TPM_RC_POLICY_FAIL: 'the key’s policy was not satisfied',
};

/** A TPM refused a command. `code` is the name of the response code, such as `TPM_RC_AUTH_FAIL`. */
export class TpmError extends Error {
  readonly code: string;
  readonly command: string;
  readonly responseCode: ResponseCode;
  constructor(command: string, value: number) {
    const responseCode = parseResponseCode(value);
    const { name, about } = responseCode;
    const where = about === undefined || about.number === 0 ? '' : ` for ${about.kind} ${about.number}`;
    const advice = ADVICE[name];
    super(`TPM2_${command}: ${name} (0x${value.toString(16)})${where}${advice === undefined ? '' : `: ${advice}`}`);
    this.name = 'TpmError';
    this.code = name;
    this.command = command;
    this.responseCode = responseCode;
  }
}

/** Whether `error` is a TPM's refusal with the response code named. */
export const isTpmError = (error: unknown, code: string): error is TpmError =>
  error instanceof TpmError && error.code === code;
