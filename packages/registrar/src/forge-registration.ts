import { constants, createDecipheriv, generateKeyPairSync, type KeyObject, privateDecrypt } from 'node:crypto';
import { digest } from '@keylime/core/digest';
import { softwareAk } from '@keylime/testing/software-ak';
import { authTag, decodeChallenge } from '@keylime/tpm/credential';
import { kdfa } from '@keylime/tpm/kdf';
import { IAK_ATTRIBUTES, IDEVID_ATTRIBUTES } from '@keylime/tpm/key-checks';
import { attributesOf, encodePublic, objectName, type TpmtPublic } from '@keylime/tpm/public';

/** What a TPM would do at registration, in software. For tests only. */
export type SoftwareTpm = {
  readonly ek: TpmtPublic;
  readonly ekPrivate: KeyObject;
  readonly ak: TpmtPublic;
  /** A registration body with its keys and some contact. */
  readonly body: (more?: Record<string, unknown>) => Record<string, unknown>;
  /** The auth tag for the base64 `blob` of a challenge: TPM2_ActivateCredential without its checks. */
  readonly answer: (blob: string, agentId: string) => string;
};

const EK_ATTRIBUTES = attributesOf(
  'fixedTPM',
  'fixedParent',
  'sensitiveDataOrigin',
  'adminWithPolicy',
  'restricted',
  'decrypt',
);

export const base64Public = (pub: TpmtPublic): string => encodePublic(pub).toString('base64');

export const rsaPublic = (key: KeyObject, parts: Partial<TpmtPublic & { type: 'rsa' }>): TpmtPublic => ({
  type: 'rsa',
  nameAlg: 'sha256',
  objectAttributes: EK_ATTRIBUTES,
  authPolicy: Buffer.alloc(32, 1),
  symmetric: { type: 'aes', keyBits: 128, mode: 'cfb' },
  scheme: { type: 'null' },
  keyBits: 2048,
  exponent: 0,
  unique: Buffer.from(String(key.export({ format: 'jwk' }).n), 'base64url'),
  ...parts,
});

/** Makes such a TPM. `akParts` changes the AK's public area. */
export function softwareTpm(akParts: Partial<TpmtPublic & { type: 'rsa' }> = {}): SoftwareTpm {
  const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ek = rsaPublic(pair.publicKey, {});
  const ak = { ...softwareAk().public, ...akParts } as TpmtPublic;
  return {
    ek,
    ekPrivate: pair.privateKey,
    ak,
    body: (more = {}) => ({
      ek_tpm: base64Public(ek),
      aik_tpm: base64Public(ak),
      ip: '127.0.0.1',
      port: 9002,
      mtls_cert: 'disabled',
      iak_cert: null,
      idevid_cert: null,
      ekcert: '',
      ...more,
    }),
    answer: (blob, agentId) => {
      const { credentialBlob, encryptedSecret } = decodeChallenge(Buffer.from(blob, 'base64'));
      const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
      const oaepLabel = Buffer.from('IDENTITY\0');
      const seed = privateDecrypt({ key: pair.privateKey, ...padding, oaepLabel }, encryptedSecret);
      const key = kdfa('sha256', seed, 'STORAGE', objectName(ak), Buffer.alloc(0), 128);
      const encIdentity = credentialBlob.subarray(2 + credentialBlob.readUInt16BE(0));
      const secret = createDecipheriv('aes-128-cfb', key, Buffer.alloc(16)).update(encIdentity).subarray(2);
      return authTag(secret.toString('base64'), agentId);
    },
  };
}

/** An IAK and an IDevID, and the fields of a body in which the IAK certifies `ak` for the agent `agentId`. */
export function softwareDeviceIdentity() {
  const iakKey = softwareAk({ signing: 'rsapss' });
  const idevidKey = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const iak = { ...iakKey.public, objectAttributes: IAK_ATTRIBUTES } as TpmtPublic;
  const idevid = rsaPublic(idevidKey.publicKey, { objectAttributes: IDEVID_ATTRIBUTES, symmetric: { type: 'null' } });
  return {
    iakPublicKey: iakKey.publicKey,
    idevidPublicKey: idevidKey.publicKey,
    keys: { iak_tpm: base64Public(iak), idevid_tpm: base64Public(idevid) },
    proof(ak: TpmtPublic, agentId: string, form: 'digest' | 'id' = 'digest') {
      const id = Buffer.from(agentId);
      const { attest, signature } = iakKey.certify(objectName(ak), form === 'digest' ? digest('sha256', id) : id);
      return { iak_attest: attest.toString('base64'), iak_sign: signature.toString('base64') };
    },
  };
}
