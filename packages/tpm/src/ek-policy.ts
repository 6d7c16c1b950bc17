import { randomBytes } from 'node:crypto';
import { digest, digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { FlushContext, PolicyOR, PolicySecret, StartAuthSession } from './commands.ts';
import { TPM_RH_ENDORSEMENT, TPM_RH_NULL } from './handles.ts';
import type { TpmtPublic } from './public.ts';
import { type Authorization, password, policy, type Tpm } from './tpm.ts';

const none = Buffer.alloc(0);
const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** The policy of EKs in the low range: the endorsement hierarchy's password (TCG EK Credential Profile 2.4, B.3, B.6). */
export function policyA(hash: HashAlgorithm): Buffer {
  const zeros = Buffer.alloc(digestSize(hash));
  return digest(hash, digest(hash, zeros, uint32(PolicySecret.code), uint32(TPM_RH_ENDORSEMENT)));
}

/** PolicyAuthorizeNV of each hash (the same profile, B.6.4): the other branch of PolicyB, which we never take. */
const POLICY_C: Partial<Record<HashAlgorithm, string>> = {
  sha256: '3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde',
  sha384: 'd6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165',
  sha512:
    '589ee1e146544716e8deafe6db247b01b81e9f9c7dd16b814aa159138749105fba5388dd1dea702f35240c184933121e2c61b8f50d3ef91393a49a38c3f73fc8',
  sm3_256: '2d4e81578c3531d9bd1cdd7d02ba298d5699a3e39fc3551bfeffcf132b49e11d',
};

const branches = (hash: HashAlgorithm): readonly [Buffer, Buffer] => [
  policyA(hash),
  Buffer.from(POLICY_C[hash] ?? '', 'hex'),
];

/** The policy of EKs in the high range: PolicyA or PolicyC (the same profile, B.6.3). */
export const policyB = (hash: HashAlgorithm): Buffer =>
  digest(hash, Buffer.alloc(digestSize(hash)), uint32(PolicyOR.code), ...branches(hash));

/**
 * Runs `use` with a session that satisfies the EK's policy: good for one command. `hierarchyAuth` is the endorsement
 * hierarchy's auth value. The session is flushed whatever happens.
 */
export async function withEkPolicy<T>(
  tpm: Tpm,
  options: { readonly ek: TpmtPublic; readonly hierarchyAuth?: Uint8Array | undefined },
  use: (authorization: Authorization) => Promise<T>,
): Promise<T> {
  const { ek, hierarchyAuth } = options;
  const { handle: session } = await tpm.run(StartAuthSession, {
    handles: { tpmKey: TPM_RH_NULL, bind: TPM_RH_NULL },
    parameters: {
      nonceCaller: randomBytes(16),
      encryptedSalt: none,
      sessionType: 'policy',
      symmetric: { type: 'null' },
      authHash: ek.nameAlg,
    },
  });
  try {
    await tpm.run(PolicySecret, {
      handles: { authHandle: TPM_RH_ENDORSEMENT, policySession: session },
      authorizations: [password(hierarchyAuth)],
      parameters: { nonceTpm: none, cpHashA: none, policyRef: none, expiration: 0 },
    });
    if (!ek.authPolicy.equals(policyA(ek.nameAlg))) {
      const parameters = { hashList: branches(ek.nameAlg) };
      await tpm.run(PolicyOR, { handles: { policySession: session }, parameters });
    }
    return await use(policy(session));
  } finally {
    await tpm.run(FlushContext, { parameters: { flushHandle: session } });
  }
}
