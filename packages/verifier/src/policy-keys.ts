import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parsePolicyKey } from '@keylime/policies/dsse';

/** A key for signatures of policies cannot be used; the message names the file and says why. */
export class PolicyKeyError extends Error {
  override readonly name = 'PolicyKeyError';
  readonly code = 'policy_key_unusable';
}

/** The EC keys in files that an operator names, relative to `workDir`. @throws PolicyKeyError */
export async function readPolicyKeys(files: readonly string[], workDir: string): Promise<readonly KeyObject[]> {
  return Promise.all(
    files
      .filter((file) => file !== '')
      .map(async (file) => {
        const refused = (why: string, cause?: unknown) =>
          new PolicyKeyError(`runtime_policy_signature_keys: ${file} cannot be used: ${why}`, { cause });
        const pem = await readFile(path.resolve(workDir, file), 'utf8').catch((error: unknown) => {
          throw refused(error instanceof Error ? error.message : String(error), error);
        });
        const key = parsePolicyKey(pem);
        if (!key.ok) throw refused(key.problem);
        return key.value;
      }),
  );
}
