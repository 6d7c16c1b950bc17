import { parseHex } from '@keylime/core/base64';
import type { AgentConfig } from '@keylime/service/config';
import type { AkAlgorithms } from '@keylime/tpm/ak';
import { canonicalEncryptionAlgorithm } from '@keylime/tpm/algorithms';
import { EK_ALGORITHMS, type EkAlgorithm } from '@keylime/tpm/ek';
import { AgentError } from './agent-error.ts';

/** Which keys to use in which TPM. */
export type TpmSettings = {
  /** As in the variable TCTI; absent means the TPM of this machine. */
  readonly tcti: string | undefined;
  readonly ekAlgorithm: EkAlgorithm;
  /** A persistent EK instead of one made at every start. */
  readonly ekHandle: number | undefined;
  readonly ak: AkAlgorithms;
  /** Auth value of the endorsement hierarchy; empty for none. */
  readonly hierarchyAuth: Buffer;
};

/**
 * The TPM part of the configuration.
 * @throws AgentError `algorithm_unsupported` if no EK or AK of this kind can be made.
 */
export function tpmSettings(config: AgentConfig, tcti: string | undefined): TpmSettings {
  const { tpm_encryption_alg: encryption, tpm_signing_alg: signing, tpm_hash_alg: hash } = config;
  const name = canonicalEncryptionAlgorithm(encryption);
  const ekAlgorithm = EK_ALGORITHMS.find((known) => known === name);
  if (ekAlgorithm === undefined) {
    throw new AgentError(
      'algorithm_unsupported',
      `tpm_encryption_alg = "${encryption}": no EK of this type can be made; use one of ${EK_ALGORITHMS.join(', ')}.`,
    );
  }
  const isRsa = ekAlgorithm.startsWith('rsa');
  if (isRsa !== (signing === 'rsassa' || signing === 'rsapss')) {
    throw new AgentError(
      'algorithm_unsupported',
      `tpm_signing_alg = "${signing}" does not go with tpm_encryption_alg = "${encryption}": set it to ${isRsa ? 'rsassa or rsapss' : 'ecdsa'}.`,
    );
  }
  return {
    tcti,
    ekAlgorithm,
    ekHandle: config.ek_handle,
    ak: { encryption: ekAlgorithm, signing, hash },
    hierarchyAuth: authValue('tpm_ownerpassword', config.tpm_ownerpassword),
  };
}

/**
 * The auth value of a password option: UTF-8, or hexadecimal after `hex:`. Zeros at the end do not count in a TPM.
 * @throws AgentError `password_malformed`; the value is not shown.
 */
export function authValue(option: string, text: string): Buffer {
  if (!text.startsWith('hex:')) return Buffer.from(text, 'utf8');
  const bytes = parseHex(text.slice('hex:'.length));
  if (bytes !== undefined) return bytes;
  throw new AgentError('password_malformed', `${option}: an even number of hexadecimal digits must follow "hex:".`);
}
