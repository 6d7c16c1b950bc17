import { type Static, Type } from 'typebox';

/** `results` of an agent's GET /version. Agents before API 2.5 leave the array out (spec 01 section 1.3). */
export const AgentVersionResults = Type.Object({
  supported_version: Type.String(),
  supported_versions: Type.Optional(Type.Array(Type.String())),
});
export type AgentVersionResults = Static<typeof AgentVersionResults>;
