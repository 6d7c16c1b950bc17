import { type Static, Type } from 'typebox';
import { pushTime } from './push-value.ts';

/** The one way to prove an identity: TPM2_Certify of the AK by itself. */
export const TPM_POP = { authentication_class: 'pop', authentication_type: 'tpm_pop' } as const;

const text = (maxLength: number) => Type.String({ minLength: 1, maxLength });

/** Attributes of POST /sessions (spec 05 section 4.1). */
export const SessionRequestAttributes = Type.Object({
  agent_id: text(80),
  authentication_supported: Type.Array(Type.Object({ authentication_type: Type.String() }), { maxItems: 16 }),
});
export type SessionRequestAttributes = Static<typeof SessionRequestAttributes>;

/** What an agent asks for to begin a session. */
export const sessionRequestAttributes = (agentId: string) => ({
  agent_id: agentId,
  authentication_supported: [TPM_POP],
});

/**
 * Attributes of PATCH /sessions/:id (section 4.2): `message` is TPMS_ATTEST, `signature` TPMT_SIGNATURE, both without size, in
 * base64. Only the first element counts.
 */
export const ProofAttributes = Type.Object({
  agent_id: text(80),
  authentication_provided: Type.Array(
    Type.Object({
      authentication_type: Type.String(),
      data: Type.Object({ message: Type.String({ maxLength: 4096 }), signature: Type.String({ maxLength: 4096 }) }),
    }),
    { maxItems: 16 },
  ),
});
export type ProofAttributes = Static<typeof ProofAttributes>;

/** What an agent sends to prove that its TPM holds the AK; the two structures as bytes. */
export const proofAttributes = (agentId: string, message: Uint8Array, signature: Uint8Array) => ({
  agent_id: agentId,
  authentication_provided: [
    {
      ...TPM_POP,
      data: {
        message: Buffer.from(message).toString('base64'),
        signature: Buffer.from(signature).toString('base64'),
      },
    },
  ],
});

/** Attributes of the answer to POST /sessions. `challenge` is base64 of the bytes that go into `extraData`. */
export const SessionAttributes = Type.Object({
  agent_id: Type.String(),
  authentication_requested: Type.Array(
    Type.Object({
      authentication_type: Type.String(),
      chosen_parameters: Type.Object({ challenge: text(1024) }),
    }),
    { minItems: 1 },
  ),
  created_at: Type.String(),
  challenges_expire_at: Type.String(),
});
export type SessionAttributes = Static<typeof SessionAttributes>;

export const sessionAttributes = (
  agentId: string,
  challenge: Uint8Array,
  times: { readonly createdAtMs: number; readonly challengeExpiresAtMs: number },
) => ({
  agent_id: agentId,
  authentication_requested: [
    { ...TPM_POP, chosen_parameters: { challenge: Buffer.from(challenge).toString('base64') } },
  ],
  created_at: pushTime(times.createdAtMs),
  challenges_expire_at: pushTime(times.challengeExpiresAtMs),
});

/**
 * Attributes of the answer to PATCH /sessions/:id. [compat] The status code does not tell whether the proof was accepted:
 * `evaluation` does, with `token` beside it. What existing agents need further is there and is nothing to go by.
 */
export const ProvedSessionAttributes = Type.Object({
  agent_id: Type.String(),
  evaluation: Type.String(),
  token: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
  token_expires_at: Type.Optional(Type.Union([Type.String(), Type.Null()])),
});
export type ProvedSessionAttributes = Static<typeof ProvedSessionAttributes>;
