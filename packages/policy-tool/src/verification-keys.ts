import type { Keyring } from '@keylime/ima/keyring';
import { parseVerificationKey, type VerificationKey } from '@keylime/ima/public-key';
import { readInput } from './files.ts';
import { ToolError } from './tool-error.ts';

/**
 * Keys for signatures of files, by their ids: certificates or keys, in PEM or DER.
 * @throws ToolError `file_unreadable`, `key_invalid`
 */
export async function readVerificationKeys(files: readonly string[]): Promise<Keyring> {
  const keys = new Map<number, VerificationKey>();
  for (const file of files) {
    const parsed = parseVerificationKey(await readInput(file, 'key'));
    if (!parsed.ok) {
      const why =
        parsed.problem.kind === 'not_a_key'
          ? 'it is neither a certificate nor a key in DER or PEM'
          : `it is of type ${parsed.problem.keyType}, RSA or ECDSA is wanted`;
      throw new ToolError('key_invalid', `The key ${file} cannot check signatures of files: ${why}`);
    }
    keys.set(parsed.value.keyId, parsed.value);
  }
  return keys;
}
