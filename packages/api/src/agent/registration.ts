import { type Static, Type } from 'typebox';

/**
 * What an agent sends to the registrar with POST /vX/agents/{id} (spec 02 section 2.2). Key objects are base64 TPM2B_PUBLIC
 * (with their size); `ekcert` is PEM, the EK's certificate first, or "" [compat]; `iak_cert` and `idevid_cert` are base64
 * DER and always there; `mtls_cert` is PEM or the word `disabled`.
 */
export const AgentRegistration = Type.Object({
  aik_tpm: Type.String(),
  ek_tpm: Type.String(),
  ekcert: Type.Optional(Type.String()),
  mtls_cert: Type.String(),
  ip: Type.String(),
  port: Type.Integer(),
  iak_tpm: Type.Optional(Type.String()),
  idevid_tpm: Type.Optional(Type.String()),
  iak_cert: Type.Union([Type.String(), Type.Null()]),
  idevid_cert: Type.Union([Type.String(), Type.Null()]),
  iak_attest: Type.Optional(Type.String()),
  iak_sign: Type.Optional(Type.String()),
});
export type AgentRegistration = Static<typeof AgentRegistration>;
