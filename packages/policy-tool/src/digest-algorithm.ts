import type { HashAlgorithm } from '@keylime/core/digest';
import type { Log } from '@keylime/service/log';
import { ToolError } from './tool-error.ts';

/** What digests are made with, as far as their length tells: 64 digits are SHA-256 unless something says SM3. */
export type GuessedAlgorithm = HashAlgorithm | 'sha256_or_sm3_256';

/** Where an algorithm was found; `undefined` is one that is not known. */
export type AlgorithmSource = {
  readonly name: '--algo option' | 'base policy' | 'allowlist' | 'IMA measurement list';
  readonly algorithm: GuessedAlgorithm | undefined;
};

const BY_DIGITS: ReadonlyMap<number, GuessedAlgorithm> = new Map([
  [40, 'sha1'],
  [64, 'sha256_or_sm3_256'],
  [96, 'sha384'],
  [128, 'sha512'],
]);

export const guessAlgorithm = (hex: string): GuessedAlgorithm | undefined =>
  /^[0-9a-f]+$/.test(hex) ? BY_DIGITS.get(hex.length) : undefined;

/**
 * The algorithm for new digests: that of the first source, with which all others must agree; SHA-256 without sources.
 * [compat] The words of the log lines are those of the existing tool.
 * @throws ToolError `algorithm_mismatch`
 */
export function chooseAlgorithm(sources: readonly AlgorithmSource[], log: Log): HashAlgorithm {
  let chosen: GuessedAlgorithm | undefined;
  for (const { name, algorithm } of sources) {
    if (algorithm === undefined) throw refused(`Invalid digest algorithm found in the ${name}`);
    if (chosen !== undefined && !agree(chosen, algorithm)) {
      throw refused(`The digest algorithm in the ${name} does not match the previously set '${chosen}' algorithm`);
    }
    if (chosen === undefined || (chosen === 'sha256_or_sm3_256' && algorithm !== chosen)) {
      chosen = algorithm;
      log.info(`Using digest algorithm '${chosen}' obtained from the ${name}`);
    }
  }
  return chosen === undefined || chosen === 'sha256_or_sm3_256' ? 'sha256' : chosen;
}

function agree(a: GuessedAlgorithm, b: GuessedAlgorithm): boolean {
  const either = (one: GuessedAlgorithm, other: GuessedAlgorithm) =>
    one === 'sha256_or_sm3_256' && (other === 'sha256' || other === 'sm3_256');
  return a === b || either(a, b) || either(b, a);
}

const refused = (message: string): ToolError => new ToolError('algorithm_mismatch', message);
