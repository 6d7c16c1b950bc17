import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { AgentConfig } from '@keylime/service/config';
import { canonicalEncryptionAlgorithm } from '@keylime/tpm/algorithms';
import { createIak, createIdevid, IAK_TEMPLATES, type IakAlgorithms, manualAlgorithms } from '@keylime/tpm/iak';
import { flush, readObject, type TpmObject } from '@keylime/tpm/object';
import { encodePublic, publicKey } from '@keylime/tpm/public';
import type { Tpm } from '@keylime/tpm/tpm';
import { AgentError } from './agent-error.ts';
import { authValue } from './tpm-settings.ts';

/** The options that decide about IAK and IDevID, read. */
export type DeviceIdentitySettings = {
  readonly algorithms: IakAlgorithms;
  readonly iakHandle: number | undefined;
  readonly idevidHandle: number | undefined;
  readonly iakAuth: Buffer;
  readonly iakCertificate: X509Certificate | undefined;
  readonly idevidCertificate: X509Certificate | undefined;
  readonly hierarchyAuth: Buffer;
};

/**
 * Reads the certificates, and finds the template that they are for.
 * @throws AgentError `file_unreadable`, `certificate_malformed`, `algorithm_unsupported` or `password_malformed`.
 */
export async function deviceIdentitySettings(
  config: AgentConfig,
  hierarchyAuth: Buffer,
): Promise<DeviceIdentitySettings> {
  const iakCertificate = config.iak_cert === undefined ? undefined : await readCertificate('iak_cert', config.iak_cert);
  const idevidCertificate =
    config.idevid_cert === undefined ? undefined : await readCertificate('idevid_cert', config.idevid_cert);
  return {
    algorithms: chooseAlgorithms(config, iakCertificate ?? idevidCertificate),
    iakHandle: config.iak_handle,
    idevidHandle: config.idevid_handle,
    iakAuth: authValue('iak_password', config.iak_password),
    iakCertificate,
    idevidCertificate,
    hierarchyAuth,
  };
}

/** The IAK, in the TPM until it is flushed, and what to register of both keys. */
export type DeviceIdentity = {
  readonly iak: TpmObject;
  readonly iakAuth: Buffer;
  readonly registration: {
    readonly iak_tpm: string;
    readonly idevid_tpm: string;
    readonly iak_cert: string | null;
    readonly idevid_cert: string | null;
  };
};

/**
 * Makes or finds IDevID and IAK. Only the IAK stays in the TPM: flush it after use.
 * @throws AgentError `certificate_mismatch` [MUST] if a certificate is for another key; TpmError
 */
export async function openDeviceIdentity(tpm: Tpm, settings: DeviceIdentitySettings): Promise<DeviceIdentity> {
  const { algorithms, iakHandle, idevidHandle, iakAuth, iakCertificate, idevidCertificate, hierarchyAuth } = settings;
  const idevid = idevidHandle
    ? await readObject(tpm, idevidHandle)
    : await createIdevid(tpm, algorithms, hierarchyAuth);
  await flush(tpm, idevid);
  requireSameKey('idevid_cert', idevidCertificate, idevid);
  const iak = iakHandle ? await readObject(tpm, iakHandle) : await createIak(tpm, algorithms, hierarchyAuth);
  try {
    requireSameKey('iak_cert', iakCertificate, iak);
  } catch (cause) {
    await flush(tpm, iak);
    throw cause;
  }
  const base64 = (certificate: X509Certificate | undefined) => certificate?.raw.toString('base64') ?? null;
  return {
    iak,
    iakAuth,
    registration: {
      iak_tpm: encodePublic(iak.public).toString('base64'),
      idevid_tpm: encodePublic(idevid.public).toString('base64'),
      iak_cert: base64(iakCertificate),
      idevid_cert: base64(idevidCertificate),
    },
  };
}

function requireSameKey(option: string, certificate: X509Certificate | undefined, object: TpmObject): void {
  if (certificate === undefined || certificate.publicKey.equals(publicKey(object.public))) return;
  throw new AgentError(
    'certificate_mismatch',
    `The certificate of ${option} is not for the key that this TPM has: check iak_idevid_template, ${option} and the handles.`,
  );
}

async function readCertificate(option: string, path: string): Promise<X509Certificate> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const advice = `put the certificate there, or set ${option} = "" if there is none`;
    throw new AgentError('file_unreadable', `${option}: ${path} cannot be read: ${advice}.`, { cause });
  }
  try {
    return new X509Certificate(bytes);
  } catch (cause) {
    throw new AgentError('certificate_malformed', `${option}: ${path} is no certificate, neither PEM nor DER.`, {
      cause,
    });
  }
}

/** Templates by the type of a certificate's key (spec 02 section 1.4). */
const DETECTED: { readonly [key: string]: keyof typeof IAK_TEMPLATES } = {
  'rsa 2048': 'H-1',
  'rsa-pss 2048': 'H-1',
  'ec prime256v1': 'H-2',
  'ec secp384r1': 'H-3',
  'ec secp521r1': 'H-4',
};

function chooseAlgorithms(config: AgentConfig, certificate: X509Certificate | undefined): IakAlgorithms {
  const name = config.iak_idevid_template;
  if (isTemplate(name)) return IAK_TEMPLATES[name];
  if (name === 'H-5')
    throw new AgentError('algorithm_unsupported', 'iak_idevid_template = "H-5" (SM2) is not supported.');
  if (name === '' || name === 'detect' || name === 'default') {
    if (certificate === undefined) return IAK_TEMPLATES['H-1'];
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = certificate.publicKey;
    const detected = DETECTED[`${type} ${details?.modulusLength ?? details?.namedCurve}`];
    if (detected !== undefined) return IAK_TEMPLATES[detected];
  }
  const nameAlg = config.iak_idevid_name_alg;
  if (nameAlg !== 'sha256' && nameAlg !== 'sha384' && nameAlg !== 'sha512') {
    throw new AgentError('algorithm_unsupported', `iak_idevid_name_alg = "${nameAlg}": use sha256, sha384 or sha512.`);
  }
  const isRsa = canonicalEncryptionAlgorithm(config.iak_idevid_asymmetric_alg).startsWith('rsa');
  return manualAlgorithms(isRsa ? 'rsa' : 'ecc', nameAlg);
}

const isTemplate = (name: string): name is keyof typeof IAK_TEMPLATES => Object.hasOwn(IAK_TEMPLATES, name);
