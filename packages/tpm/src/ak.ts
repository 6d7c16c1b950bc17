import type { HashAlgorithm } from '@keylime/core/digest';
import type { Curve } from './algorithms.ts';
import { ActivateCredential, Create, Load } from './commands.ts';
import type { Credential } from './credential.ts';
import { withEkPolicy } from './ek-policy.ts';
import { AK_ATTRIBUTES } from './key-checks.ts';
import type { TpmObject } from './object.ts';
import type { TpmtPublic } from './public.ts';
import { password, type Tpm } from './tpm.ts';

const none = Buffer.alloc(0);

/** `tpm_encryption_alg`, `tpm_signing_alg` and `tpm_hash_alg`; the hash is that of the Name, the signature and the PCR bank. */
export type AkAlgorithms = {
  readonly encryption: 'rsa1024' | 'rsa2048' | 'rsa3072' | 'rsa4096' | 'ecc256' | 'ecc384' | 'ecc521';
  readonly signing: 'rsassa' | 'rsapss' | 'ecdsa' | 'ecschnorr';
  readonly hash: HashAlgorithm;
};

/** What an AK is made and loaded under. `hierarchyAuth` is the endorsement hierarchy's auth value. */
export type AkParent = { readonly ek: TpmObject; readonly hierarchyAuth?: Uint8Array | undefined };

/** A loaded AK, and what must be kept to load it again: `public` and `private` (a TPM2B_PRIVATE without its size). */
export type Ak = TpmObject & { readonly private: Buffer };

const CURVES: Partial<Record<AkAlgorithms['encryption'], Curve>> = {
  ecc256: 'nist_p256',
  ecc384: 'nist_p384',
  ecc521: 'nist_p521',
};

/**
 * The template of an AK: attributes 0x00050072, no policy, signing by its own scheme only.
 * @throws RangeError if key type and scheme do not go together.
 */
export function akTemplate({ encryption, signing, hash }: AkAlgorithms): TpmtPublic {
  const common = {
    nameAlg: hash,
    objectAttributes: AK_ATTRIBUTES,
    authPolicy: none,
    symmetric: { type: 'null' },
  } as const;
  const curve = CURVES[encryption];
  const fits = (curve === undefined) === (signing === 'rsassa' || signing === 'rsapss');
  if (!fits) throw new RangeError(`an AK of type ${encryption} cannot sign with ${signing}`);
  if (curve !== undefined && (signing === 'ecdsa' || signing === 'ecschnorr')) {
    const scheme = { type: signing, hash };
    return { type: 'ecc', ...common, scheme, curve, kdf: { type: 'null' }, unique: { x: none, y: none } };
  }
  const scheme = { type: signing === 'rsapss' ? 'rsapss' : 'rsassa', hash } as const;
  return { type: 'rsa', ...common, scheme, keyBits: Number(encryption.slice(3)), exponent: 0, unique: none };
}

/** Makes an AK under the EK and loads it. @throws TpmError, also if this TPM lacks an algorithm; RangeError */
export async function createAk(tpm: Tpm, options: AkParent & AkAlgorithms): Promise<Ak> {
  const { ek, hierarchyAuth } = options;
  const inPublic = akTemplate(options);
  const { outPublic, outPrivate } = await withEkPolicy(tpm, { ek: ek.public, hierarchyAuth }, (authorization) =>
    tpm.run(Create, {
      handles: { parentHandle: ek.handle },
      authorizations: [authorization],
      parameters: { inSensitive: { userAuth: none, data: none }, inPublic, outsideInfo: none, creationPcr: [] },
    }),
  );
  return loadAk(tpm, { ek, hierarchyAuth, public: outPublic, private: outPrivate });
}

/** Loads an AK made earlier under the same EK. @throws TpmError `TPM_RC_INTEGRITY` if it is another TPM's. */
export async function loadAk(tpm: Tpm, options: AkParent & Pick<Ak, 'public' | 'private'>): Promise<Ak> {
  const { ek, hierarchyAuth, public: inPublic, private: inPrivate } = options;
  const { handle, name } = await withEkPolicy(tpm, { ek: ek.public, hierarchyAuth }, (authorization) =>
    tpm.run(Load, {
      handles: { parentHandle: ek.handle },
      authorizations: [authorization],
      parameters: { inPrivate, inPublic },
    }),
  );
  return { handle, public: inPublic, private: inPrivate, name };
}

/**
 * Opens a credential that was made for this EK and this AK; the result is its secret.
 * @throws TpmError `TPM_RC_INTEGRITY` or `TPM_RC_VALUE` if it was made for others.
 */
export async function activateCredential(
  tpm: Tpm,
  options: AkParent & { readonly ak: TpmObject; readonly credential: Credential },
): Promise<Buffer> {
  const { ek, ak, hierarchyAuth, credential } = options;
  const { certInfo } = await withEkPolicy(tpm, { ek: ek.public, hierarchyAuth }, (authorization) =>
    tpm.run(ActivateCredential, {
      handles: { activateHandle: ak.handle, keyHandle: ek.handle },
      authorizations: [password(), authorization],
      parameters: { credentialBlob: credential.credentialBlob, secret: credential.encryptedSecret },
    }),
  );
  return certInfo;
}
