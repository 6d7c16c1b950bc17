import { encode } from '@keylime/core/codec';
import type { Curve } from './algorithms.ts';
import { Certify } from './commands.ts';
import { IAK_ATTRIBUTES, IDEVID_ATTRIBUTES } from './key-checks.ts';
import type { TpmObject } from './object.ts';
import { createPrimary } from './primary.ts';
import type { TpmtPublic } from './public.ts';
import { TpmtSignature } from './signature.ts';
import { password, type Tpm } from './tpm.ts';

/** A row of a table of templates. */
export type IakAlgorithms = {
  readonly nameAlg: 'sha256' | 'sha384' | 'sha512';
  readonly key: { readonly keyBits: number } | { readonly curve: Curve };
};

/** TCG TPM 2.0 Keys for Device Identity and Attestation r1.00, 7.3.4. */
export const IAK_TEMPLATES = {
  'H-1': { nameAlg: 'sha256', key: { keyBits: 2048 } },
  'H-2': { nameAlg: 'sha256', key: { curve: 'nist_p256' } },
  'H-3': { nameAlg: 'sha384', key: { curve: 'nist_p384' } },
  'H-4': { nameAlg: 'sha512', key: { curve: 'nist_p521' } },
} as const satisfies Record<string, IakAlgorithms>;

type Role = 'iak' | 'idevid';

/** The same document, 7.3.6: the policies that let these keys be used after their password is gone. */
const POLICIES: Readonly<Record<Role, Readonly<Record<IakAlgorithms['nameAlg'], string>>>> = {
  idevid: {
    sha256: 'ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea',
    sha384: '4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cfa5cbdf6dc18c4dbe329b2f1542c3dd33',
    sha512:
      '7dd7500fd6c1b94f97a6af910da147301ef28f662fee06f225a4ccadda3b4e6b38e66b2f3ad5dee1a0503cd2daedb1e68cfe4f84b03a8cd22bb6a976f071a72f',
  },
  iak: {
    sha256: '5437182326e414fca797d5f174615a1641f61255797c3a2b22c21d120b2d1e07',
    sha384: '129d94ebf84556652c6eef43bbb757512ac87e52be7b349ca6ce4d826f749fcf672f51716c5cbb605f313bf345aab312',
    sha512:
      '8060d1fb31716a29e48a6e5fece088bcfc1b278fc162255e81c3eca3544cd44af94410c3715d561cccd9e39a6cb2646d43535bb54ea88710deb5f7836bd9b586',
  },
};

const LABELS: Readonly<Record<Role, string>> = { iak: 'IAK', idevid: 'IDEVID' };

function template(role: Role, { nameAlg, key }: IakAlgorithms): TpmtPublic {
  const label = Buffer.from(LABELS[role], 'ascii');
  const common = {
    nameAlg,
    objectAttributes: role === 'iak' ? IAK_ATTRIBUTES : IDEVID_ATTRIBUTES,
    authPolicy: Buffer.from(POLICIES[role][nameAlg], 'hex'),
    symmetric: { type: 'null' },
  } as const;
  if ('keyBits' in key) {
    const scheme = role === 'iak' ? ({ type: 'rsapss', hash: nameAlg } as const) : ({ type: 'null' } as const);
    return { type: 'rsa', ...common, scheme, keyBits: key.keyBits, exponent: 0, unique: label };
  }
  const scheme = { type: 'ecdsa', hash: nameAlg } as const;
  return { type: 'ecc', ...common, scheme, curve: key.curve, kdf: { type: 'null' }, unique: { x: label, y: label } };
}

/** The template of an IAK: attributes 0x000500F2, RSAPSS or ECDSA with nameAlg, unique field `IAK`. */
export const iakTemplate = (algorithms: IakAlgorithms): TpmtPublic => template('iak', algorithms);
/** The template of an IDevID: attributes 0x000400F2, no scheme (RSA) or ECDSA with nameAlg, unique field `IDEVID`. */
export const idevidTemplate = (algorithms: IakAlgorithms): TpmtPublic => template('idevid', algorithms);

/** `manual` templates: RSA of the size that goes with the hash, or the curve that does. */
export const manualAlgorithms = (type: 'rsa' | 'ecc', nameAlg: IakAlgorithms['nameAlg']): IakAlgorithms => {
  const keyBits = { sha256: 2048, sha384: 3072, sha512: 4096 } as const;
  const curve = { sha256: 'nist_p256', sha384: 'nist_p384', sha512: 'nist_p521' } as const;
  return { nameAlg, key: type === 'rsa' ? { keyBits: keyBits[nameAlg] } : { curve: curve[nameAlg] } };
};

/** Makes the IAK of a template; transient: flush it. A persistent one is read with `readObject`. */
export const createIak = (tpm: Tpm, algorithms: IakAlgorithms, hierarchyAuth?: Uint8Array): Promise<TpmObject> =>
  createPrimary(tpm, iakTemplate(algorithms), hierarchyAuth);

/** Makes the IDevID of a template; transient: flush it. */
export const createIdevid = (tpm: Tpm, algorithms: IakAlgorithms, hierarchyAuth?: Uint8Array): Promise<TpmObject> =>
  createPrimary(tpm, idevidTemplate(algorithms), hierarchyAuth);

/**
 * TPM2_Certify: `signer` says that `object` is in its TPM. With the AK as object and the IAK as signer this is the proof
 * of registration, with the AK as both the proof of possession.
 * @returns TPMS_ATTEST without its size, and TPMT_SIGNATURE.
 * @throws TpmError; `TPM_RC_SIZE` for parameter 1 if `qualifyingData` is longer than this TPM's largest hash plus 2.
 */
export async function certify(
  tpm: Tpm,
  options: {
    readonly object: TpmObject;
    readonly signer: TpmObject;
    readonly qualifyingData: Uint8Array;
    readonly signerAuth?: Uint8Array | undefined;
  },
): Promise<{ readonly attest: Buffer; readonly signature: Buffer }> {
  const { object, signer, qualifyingData, signerAuth } = options;
  const { certifyInfo, signature } = await tpm.run(Certify, {
    handles: { objectHandle: object.handle, signHandle: signer.handle },
    authorizations: [password(), password(signerAuth)],
    parameters: { qualifyingData: Buffer.from(qualifyingData), inScheme: { type: 'null' } },
  });
  return { attest: certifyInfo, signature: encode(TpmtSignature, signature) };
}
