import { digest, type HashAlgorithm } from '@keylime/core/digest';

/** One measurement as the kernel records it: the line for the list, and what each PCR bank is extended with. */
export type ImaRecord = {
  /** Line of `ascii_runtime_measurements`, with its line feed. */
  readonly line: string;
  /** The template hash in `bank`. */
  readonly extendValue: (bank: HashAlgorithm) => Buffer;
};

/**
 * Records a file's digest under the template `ima-ng`, for programs that measure where no kernel does: trials, tests and
 * simulated fleets. Spaces of the path become underscores, as in the kernel.
 * `logHashAlgorithm` is that of the list's file: `ascii_runtime_measurements_sha256` has SHA-256 in its second column. Source: Linux
 * Documentation/security/IMA-templates.rst; the layout of the hash input is that of security/integrity/ima/ima_template_lib.c.
 */
export function recordImaNg(
  path: string,
  algorithm: HashAlgorithm,
  fileDigest: Uint8Array,
  logHashAlgorithm: HashAlgorithm = 'sha1',
): ImaRecord {
  const name = path.replaceAll(' ', '_');
  const digestField = Buffer.concat([Buffer.from(`${algorithm}:\0`), fileDigest]);
  const nameField = Buffer.from(`${name}\0`);
  const input = Buffer.concat([length(digestField), digestField, length(nameField), nameField]);
  const column = digest(logHashAlgorithm, input).toString('hex');
  const hex = Buffer.from(fileDigest).toString('hex');
  return {
    line: `10 ${column} ima-ng ${algorithm}:${hex} ${name}\n`,
    extendValue: (bank) => digest(bank, input),
  };
}

function length(field: Uint8Array): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(field.length);
  return bytes;
}
