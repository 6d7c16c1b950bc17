import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { type AkAlgorithms, activateCredential, createAk } from '@keylime/tpm/ak';
import { authTag, decodeChallenge } from '@keylime/tpm/credential';
import { createEk, type EkAlgorithm, readEkCertificate } from '@keylime/tpm/ek';
import { flush, type TpmObject } from '@keylime/tpm/object';
import { encodePublic } from '@keylime/tpm/public';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm, type Tpm } from '@keylime/tpm/tpm';

/** A machine with a software TPM that registers. For tests only. */
export type TpmRegistrant = {
  readonly tpm: Tpm;
  readonly ek: TpmObject;
  readonly ak: TpmObject;
  /** PEM of the makers' CAs, issuer first. */
  readonly caCertificates: readonly string[];
  /** A body with its keys, its EK certificate if it has one, and some contact. */
  readonly body: (more?: Record<string, unknown>) => Record<string, unknown>;
  /** The auth tag for the base64 `blob` of a challenge, by TPM2_ActivateCredential for `ak` or another object. */
  readonly answer: (blob: string, agentId: string, ak?: TpmObject) => Promise<string>;
  readonly stop: () => Promise<void>;
};

const AK_RSA: AkAlgorithms = { encryption: 'rsa2048', signing: 'rsassa', hash: 'sha256' };

/** Starts a software TPM with its own EK certificates, and makes EK and AK in it. */
export async function startTpmRegistrant(
  options: { readonly ek?: EkAlgorithm; readonly ak?: AkAlgorithms } = {},
): Promise<TpmRegistrant> {
  const { ek: algorithm = 'rsa2048', ak: akAlgorithms = AK_RSA } = options;
  const swtpm = await startSwtpm();
  const tpm = await openTpm({ transport: await openTransport(swtpm.tcti) });
  const ek = await createEk(tpm, algorithm);
  const ak = await createAk(tpm, { ek, ...akAlgorithms });
  const ekCertificate = await readEkCertificate(tpm, algorithm);
  return {
    tpm,
    ek,
    ak,
    caCertificates: swtpm.caCertificates,
    body: (more = {}) => ({
      ek_tpm: encodePublic(ek.public).toString('base64'),
      ekcert: ekCertificate?.toString('base64') ?? '',
      aik_tpm: encodePublic(ak.public).toString('base64'),
      iak_cert: null,
      idevid_cert: null,
      ip: '127.0.0.1',
      port: 9002,
      mtls_cert: 'disabled',
      ...more,
    }),
    async answer(blob, agentId, of = ak) {
      const credential = decodeChallenge(Buffer.from(blob, 'base64'));
      const secret = await activateCredential(tpm, { ek, ak: of, credential });
      return authTag(secret.toString('base64'), agentId);
    },
    async stop() {
      for (const object of [ak, ek]) await flush(tpm, object);
      await tpm.close();
      await swtpm.stop();
    },
  };
}
