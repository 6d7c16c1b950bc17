import type { HashAlgorithm } from '@keylime/core/digest';
import {
  attributesOf,
  type ObjectAttribute,
  type ObjectAttributes,
  publicKey,
  TpmKeyError,
  type TpmtPublic,
} from './public.ts';

/** Why a public area is not the kind of key that it is offered as. */
export type KeyProblem =
  | {
      readonly kind: 'key_attributes';
      readonly missing: readonly ObjectAttribute[];
      readonly unexpected: readonly ObjectAttribute[];
    }
  | { readonly kind: 'key_scheme'; readonly scheme: string }
  | { readonly kind: 'key_scheme_hash'; readonly hash: HashAlgorithm }
  | { readonly kind: 'key_name_algorithm'; readonly nameAlg: HashAlgorithm }
  | { readonly kind: 'key_symmetric'; readonly symmetric: string }
  | { readonly kind: 'key_impossible'; readonly reason: string };

/** A key that the TPM made, that cannot leave it, and that signs only what the TPM says itself: 0x00050072. */
export const AK_ATTRIBUTES = attributesOf(
  'fixedTPM',
  'fixedParent',
  'sensitiveDataOrigin',
  'userWithAuth',
  'restricted',
  'sign',
);
/** TCG TPM 2.0 Keys for Device Identity and Attestation r1.00, 7.3.4: 0x000500F2. */
export const IAK_ATTRIBUTES = { ...AK_ATTRIBUTES, adminWithPolicy: true };
/** The same document: 0x000400F2, an IAK that may sign anything. */
export const IDEVID_ATTRIBUTES = { ...IAK_ATTRIBUTES, restricted: false };

const STRONG_HASHES: readonly HashAlgorithm[] = ['sha256', 'sha384', 'sha512'];

function attributeProblems(
  actual: ObjectAttributes,
  wanted: Partial<Record<ObjectAttribute, boolean>>,
): readonly KeyProblem[] {
  const wrong = Object.entries(wanted).filter(([name, set]) => actual[name as ObjectAttribute] !== set);
  if (wrong.length === 0) return [];
  const names = (set: boolean) => wrong.filter(([, want]) => want === set).map(([name]) => name as ObjectAttribute);
  return [{ kind: 'key_attributes', missing: names(true), unexpected: names(false) }];
}

function possibleProblems(pub: TpmtPublic): readonly KeyProblem[] {
  try {
    publicKey(pub);
    return [];
  } catch (error) {
    if (error instanceof TpmKeyError) return [{ kind: 'key_impossible', reason: error.message }];
    throw error;
  }
}

const nameProblems = ({ nameAlg }: TpmtPublic): readonly KeyProblem[] =>
  STRONG_HASHES.includes(nameAlg) ? [] : [{ kind: 'key_name_algorithm', nameAlg }];

function schemeProblems({ scheme }: TpmtPublic): readonly KeyProblem[] {
  if (scheme.type !== 'rsassa' && scheme.type !== 'rsapss' && scheme.type !== 'ecdsa') {
    return [{ kind: 'key_scheme', scheme: scheme.type }];
  }
  return STRONG_HASHES.includes(scheme.hash) ? [] : [{ kind: 'key_scheme_hash', hash: scheme.hash }];
}

/**
 * Why `pub` cannot be an attestation key; empty if it can. A key without these exact attributes may be a software key
 * brought into the TPM, which activates like any other and signs forged quotes.
 */
export const akProblems = (pub: TpmtPublic): readonly KeyProblem[] => [
  ...attributeProblems(pub.objectAttributes, AK_ATTRIBUTES),
  ...schemeProblems(pub),
  ...nameProblems(pub),
  ...possibleProblems(pub),
];

/** Why `pub` cannot be an endorsement key: a restricted storage key of this TPM with AES-CFB; empty if it can. */
export function ekProblems(pub: TpmtPublic): readonly KeyProblem[] {
  const { symmetric } = pub;
  const aes = symmetric.type === 'aes' && symmetric.mode === 'cfb' && [128, 256].includes(symmetric.keyBits);
  const name = symmetric.type === 'null' ? 'null' : `${symmetric.type}-${symmetric.keyBits}-${symmetric.mode}`;
  return [
    ...attributeProblems(pub.objectAttributes, {
      fixedTPM: true,
      fixedParent: true,
      restricted: true,
      decrypt: true,
      sign: false,
    }),
    ...(aes ? [] : [{ kind: 'key_symmetric', symmetric: name } as const]),
    ...possibleProblems(pub),
  ];
}

/** Why `pub` cannot be an initial attestation key; empty if it can. */
export const iakProblems = (pub: TpmtPublic): readonly KeyProblem[] => [
  ...attributeProblems(pub.objectAttributes, IAK_ATTRIBUTES),
  ...schemeProblems(pub),
  ...nameProblems(pub),
  ...possibleProblems(pub),
];

/** Why `pub` cannot be an initial device identity key; empty if it can. Its RSA form has no scheme of its own. */
export const idevidProblems = (pub: TpmtPublic): readonly KeyProblem[] => [
  ...attributeProblems(pub.objectAttributes, IDEVID_ATTRIBUTES),
  ...nameProblems(pub),
  ...possibleProblems(pub),
];

/** One line for a log or an operator. */
export function describeKeyProblem(problem: KeyProblem): string {
  switch (problem.kind) {
    case 'key_attributes': {
      const missing = problem.missing.length > 0 ? `lacks ${problem.missing.join(', ')}` : '';
      const unexpected = problem.unexpected.length > 0 ? `must not have ${problem.unexpected.join(', ')}` : '';
      return `key ${[missing, unexpected].filter((part) => part !== '').join(' and ')}`;
    }
    case 'key_scheme':
      return `key has signing scheme ${problem.scheme}; rsassa, rsapss or ecdsa wanted`;
    case 'key_scheme_hash':
      return `key signs ${problem.hash} digests; sha256, sha384 or sha512 wanted`;
    case 'key_name_algorithm':
      return `key's name algorithm is ${problem.nameAlg}; sha256, sha384 or sha512 wanted`;
    case 'key_symmetric':
      return `key's symmetric algorithm is ${problem.symmetric}; aes-128-cfb or aes-256-cfb wanted`;
    case 'key_impossible':
      return problem.reason;
  }
}
