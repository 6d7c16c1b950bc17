import { type Static, Type } from 'typebox';
import { EnvelopeOf } from '../envelope-schema.ts';

const OptionalText = Type.Optional(Type.Union([Type.String(), Type.Null()]));

/**
 * Body of POST /vX/agents/{id} and POST /vX/agents (spec 01 section 4.2). A field left out keeps what an existing record
 * has, `""` counts as null. `*_tpm` are TPM2B_PUBLIC (with their size) as base64 or hex; certificates are PEM or base64 DER,
 * the agent's first; `iak_attest` is a TPMS_ATTEST and `iak_sign` a TPMT_SIGNATURE. Unknown fields are ignored.
 */
export const RegistrationBody = Type.Object({
  agent_id: Type.Optional(Type.String({ description: 'With POST /vX/agents only; the path wins' })),
  ek_tpm: OptionalText,
  ekcert: OptionalText,
  aik_tpm: OptionalText,
  iak_tpm: OptionalText,
  iak_cert: OptionalText,
  idevid_tpm: OptionalText,
  idevid_cert: OptionalText,
  iak_attest: OptionalText,
  iak_sign: OptionalText,
  ip: OptionalText,
  port: Type.Optional(Type.Union([Type.Integer(), Type.String(), Type.Null()])),
  mtls_cert: OptionalText,
});
export type RegistrationBody = Static<typeof RegistrationBody>;

/** The names of the fields, as they stand in a body. */
export type RegistrationField = keyof RegistrationBody;

/** `results` of an accepted registration: base64 of the credential that only the agent's TPM can open. */
export const ChallengeResults = Type.Object({ blob: Type.String() });
export type ChallengeResults = Static<typeof ChallengeResults>;
export const ChallengeAnswer = EnvelopeOf(ChallengeResults);

/** The answer to a refused registration. `problems` says what to mend, one line each; clients look at `status` only. */
export const RegistrationRefusal = EnvelopeOf(Type.Object({ problems: Type.Optional(Type.Array(Type.String())) }));

/** Texts of `status` that peers and scripts know (spec 01 section 4.3). */
export const INVALID_REGISTRATION = 'Could not register agent with invalid data';
export const IDENTITY_CHANGED = 'Agent re-registration with different TPM identity is forbidden for security reasons';
export const agentIdTaken = (agentId: string): string =>
  `Agent with UUID '${agentId}' cannot be registered. This UUID is already in use or a concurrent registration is in progress.`;
