import {
  type Codec,
  counted,
  fixedBytes,
  i32,
  list,
  named,
  nothing,
  struct,
  tagged,
  u8,
  u16,
  u32,
  yesNo,
} from '@keylime/core/codec';
import { DIGEST_SIZES } from '@keylime/core/digest';
import { algorithmIds, HASH_IDS, hashId } from './algorithms.ts';
import { pcrBitmap, TpmlPcrSelection } from './pcr-selection.ts';
import { Tpm2bPublic, TpmtSigScheme } from './public.ts';
import { TpmtSignature } from './signature.ts';
import { tpm2bAuth, tpm2bData, tpm2bDigest, tpm2bName, tpm2bOpaque } from './tpm2b.ts';

/**
 * A TPM command: `H` names its handles, of which the first `authorized` need an authorization each; `P` is what it is
 * asked with, `A` the answer (the response handle, if there is one, is part of it).
 */
export type Command<H extends string, P, A> = {
  readonly name: string;
  readonly code: number;
  readonly handles: readonly H[];
  readonly authorized: number;
  readonly parameters: Codec<P>;
  readonly answerHandles: Codec<Partial<A>>;
  readonly answer: Codec<unknown>;
};

/** Declares a command; exported for those that are not in this file. */
export function command<const H extends readonly string[], P, A, AH = unknown>(declared: {
  readonly name: string;
  readonly code: number;
  readonly handles: H;
  readonly authorized: number;
  readonly parameters: Codec<P>;
  readonly answerHandles?: Codec<AH>;
  readonly answer: Codec<A>;
}): Command<H[number], P, AH & A> {
  return { answerHandles: nothing as Codec<Partial<AH & A>>, ...declared } as Command<H[number], P, AH & A>;
}

/** The handle of what a command made or loaded. */
const made = struct({ handle: u32 });

/** TPMT_TK_CREATION and other tickets (TPM 2.0 Part 2 r1.59, 10.7). */
const ticket = struct({ tag: u16, hierarchy: u32, digest: tpm2bDigest });

/** TPM2B_SENSITIVE_CREATE (11.1.16). */
const Tpm2bSensitiveCreate = counted(u16, struct({ userAuth: tpm2bAuth, data: tpm2bOpaque }));

const creation = struct({
  inSensitive: Tpm2bSensitiveCreate,
  inPublic: Tpm2bPublic,
  outsideInfo: tpm2bData,
  creationPcr: TpmlPcrSelection,
});

const hashValue = (size: number) => struct({ digest: fixedBytes(size) });
/** TPMT_HA (10.3.2). */
const TpmtHa = tagged(named(u16, HASH_IDS), {
  sha1: hashValue(DIGEST_SIZES.sha1),
  sha256: hashValue(DIGEST_SIZES.sha256),
  sha384: hashValue(DIGEST_SIZES.sha384),
  sha512: hashValue(DIGEST_SIZES.sha512),
  sm3_256: hashValue(DIGEST_SIZES.sm3_256),
});

export const CAPABILITIES = { algorithms: 0, handles: 1, pcrs: 5, properties: 6 } as const;

/** TPMS_CAPABILITY_DATA (10.10.1). Algorithms are numbers here: a TPM may have ones that we do not know. */
const TpmsCapabilityData = tagged(named(u32, CAPABILITIES), {
  algorithms: struct({ algorithms: list(u32, struct({ algorithm: u16, attributes: u32 }), 512) }),
  handles: struct({ handles: list(u32, u32, 1024) }),
  pcrs: struct({ banks: list(u32, struct({ hash: u16, pcrSelect: pcrBitmap }), 16) }),
  properties: struct({ properties: list(u32, struct({ property: u32, value: u32 }), 512) }),
});

/** TPMS_NV_PUBLIC (13.6). */
const Tpm2bNvPublic = counted(
  u16,
  struct({ nvIndex: u32, nameAlg: u16, attributes: u32, authPolicy: tpm2bDigest, dataSize: u16 }),
);

/** TPMT_SYM_DEF (11.1.6) of a session: none. */
const sessionSymmetric = tagged(named(u16, algorithmIds('null')), { null: nothing });

/** The commands of TPM 2.0 Part 3 r1.59, parameters and answers in its order. */
export const Startup = command({
  name: 'Startup',
  code: 0x144,
  handles: [],
  authorized: 0,
  parameters: struct({ startupType: named(u16, { clear: 0, state: 1 }) }),
  answer: nothing,
});

export const Shutdown = command({
  name: 'Shutdown',
  code: 0x145,
  handles: [],
  authorized: 0,
  parameters: struct({ shutdownType: named(u16, { clear: 0, state: 1 }) }),
  answer: nothing,
});

export const GetCapability = command({
  name: 'GetCapability',
  code: 0x17a,
  handles: [],
  authorized: 0,
  parameters: struct({ capability: named(u32, CAPABILITIES), property: u32, propertyCount: u32 }),
  answer: struct({ moreData: yesNo, data: TpmsCapabilityData }),
});

export const CreatePrimary = command({
  name: 'CreatePrimary',
  code: 0x131,
  handles: ['primaryHandle'],
  authorized: 1,
  parameters: creation,
  answerHandles: made,
  answer: struct({
    outPublic: Tpm2bPublic,
    creationData: tpm2bOpaque,
    creationHash: tpm2bDigest,
    creationTicket: ticket,
    name: tpm2bName,
  }),
});

export const Create = command({
  name: 'Create',
  code: 0x153,
  handles: ['parentHandle'],
  authorized: 1,
  parameters: creation,
  answer: struct({
    outPrivate: tpm2bOpaque,
    outPublic: Tpm2bPublic,
    creationData: tpm2bOpaque,
    creationHash: tpm2bDigest,
    creationTicket: ticket,
  }),
});

export const Load = command({
  name: 'Load',
  code: 0x157,
  handles: ['parentHandle'],
  authorized: 1,
  parameters: struct({ inPrivate: tpm2bOpaque, inPublic: Tpm2bPublic }),
  answerHandles: made,
  answer: struct({ name: tpm2bName }),
});

/** `inPrivate` is a TPM2B_SENSITIVE without its size; empty for a public key alone. */
export const LoadExternal = command({
  name: 'LoadExternal',
  code: 0x167,
  handles: [],
  authorized: 0,
  parameters: struct({ inPrivate: tpm2bOpaque, inPublic: Tpm2bPublic, hierarchy: u32 }),
  answerHandles: made,
  answer: struct({ name: tpm2bName }),
});

export const FlushContext = command({
  name: 'FlushContext',
  code: 0x165,
  handles: [],
  authorized: 0,
  parameters: struct({ flushHandle: u32 }),
  answer: nothing,
});

export const ReadPublic = command({
  name: 'ReadPublic',
  code: 0x173,
  handles: ['objectHandle'],
  authorized: 0,
  parameters: nothing,
  answer: struct({ outPublic: Tpm2bPublic, name: tpm2bName, qualifiedName: tpm2bName }),
});

export const StartAuthSession = command({
  name: 'StartAuthSession',
  code: 0x176,
  handles: ['tpmKey', 'bind'],
  authorized: 0,
  parameters: struct({
    nonceCaller: tpm2bAuth,
    encryptedSalt: tpm2bOpaque,
    sessionType: named(u8, { hmac: 0, policy: 1, trial: 3 }),
    symmetric: sessionSymmetric,
    authHash: hashId,
  }),
  answerHandles: made,
  answer: struct({ nonceTpm: tpm2bAuth }),
});

export const PolicySecret = command({
  name: 'PolicySecret',
  code: 0x151,
  handles: ['authHandle', 'policySession'],
  authorized: 1,
  parameters: struct({ nonceTpm: tpm2bAuth, cpHashA: tpm2bDigest, policyRef: tpm2bAuth, expiration: i32 }),
  answer: struct({ timeout: tpm2bOpaque, policyTicket: ticket }),
});

export const PolicyOR = command({
  name: 'PolicyOR',
  code: 0x171,
  handles: ['policySession'],
  authorized: 0,
  parameters: struct({ hashList: list(u32, tpm2bDigest, 8) }),
  answer: nothing,
});

export const ActivateCredential = command({
  name: 'ActivateCredential',
  code: 0x147,
  handles: ['activateHandle', 'keyHandle'],
  authorized: 2,
  parameters: struct({ credentialBlob: tpm2bOpaque, secret: tpm2bOpaque }),
  answer: struct({ certInfo: tpm2bDigest }),
});

export const Certify = command({
  name: 'Certify',
  code: 0x148,
  handles: ['objectHandle', 'signHandle'],
  authorized: 2,
  parameters: struct({ qualifyingData: tpm2bData, inScheme: TpmtSigScheme }),
  answer: struct({ certifyInfo: tpm2bOpaque, signature: TpmtSignature }),
});

export const Quote = command({
  name: 'Quote',
  code: 0x158,
  handles: ['signHandle'],
  authorized: 1,
  parameters: struct({ qualifyingData: tpm2bData, inScheme: TpmtSigScheme, pcrSelect: TpmlPcrSelection }),
  answer: struct({ quoted: tpm2bOpaque, signature: TpmtSignature }),
});

export const PcrRead = command({
  name: 'PCR_Read',
  code: 0x17e,
  handles: [],
  authorized: 0,
  parameters: struct({ pcrSelectionIn: TpmlPcrSelection }),
  answer: struct({
    pcrUpdateCounter: u32,
    pcrSelectionOut: TpmlPcrSelection,
    pcrValues: list(u32, tpm2bDigest, 8),
  }),
});

export const PcrExtend = command({
  name: 'PCR_Extend',
  code: 0x182,
  handles: ['pcrHandle'],
  authorized: 1,
  parameters: struct({ digests: list(u32, TpmtHa, 16) }),
  answer: nothing,
});

export const PcrReset = command({
  name: 'PCR_Reset',
  code: 0x13d,
  handles: ['pcrHandle'],
  authorized: 1,
  parameters: nothing,
  answer: nothing,
});

export const NvReadPublic = command({
  name: 'NV_ReadPublic',
  code: 0x169,
  handles: ['nvIndex'],
  authorized: 0,
  parameters: nothing,
  answer: struct({ nvPublic: Tpm2bNvPublic, nvName: tpm2bName }),
});

export const NvRead = command({
  name: 'NV_Read',
  code: 0x14e,
  handles: ['authHandle', 'nvIndex'],
  authorized: 1,
  parameters: struct({ size: u16, offset: u16 }),
  answer: struct({ data: tpm2bOpaque }),
});

export const EvictControl = command({
  name: 'EvictControl',
  code: 0x120,
  handles: ['auth', 'objectHandle'],
  authorized: 1,
  parameters: struct({ persistentHandle: u32 }),
  answer: nothing,
});

export const GetRandom = command({
  name: 'GetRandom',
  code: 0x17b,
  handles: [],
  authorized: 0,
  parameters: struct({ bytesRequested: u16 }),
  answer: struct({ randomBytes: tpm2bDigest }),
});

export const HierarchyChangeAuth = command({
  name: 'HierarchyChangeAuth',
  code: 0x129,
  handles: ['authHandle'],
  authorized: 1,
  parameters: struct({ newAuth: tpm2bAuth }),
  answer: nothing,
});
