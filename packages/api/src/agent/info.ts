import { type Static, Type } from 'typebox';

/** `results` of GET /vX/agent/info, from API version 2.2 on (spec 01 section 6). `ak_handle` is the AK's TPM handle. */
export const AgentInfoResults = Type.Object({
  agent_uuid: Type.String(),
  tpm_hash_alg: Type.String(),
  tpm_enc_alg: Type.String(),
  tpm_sign_alg: Type.String(),
  ak_handle: Type.Integer(),
});
export type AgentInfoResults = Static<typeof AgentInfoResults>;
