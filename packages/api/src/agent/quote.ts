import { type Static, Type } from 'typebox';

/**
 * `results` of GET /vX/quotes/identity and /vX/quotes/integrity (spec 01 section 6.1). `quote` is the string of spec 02
 * section 3.3. What does not apply is left out; `boottime` is never sent by pull agents and counts as 0.
 */
export const QuoteResults = Type.Object({
  quote: Type.String(),
  hash_alg: Type.String(),
  enc_alg: Type.String(),
  sign_alg: Type.String(),
  pubkey: Type.Optional(Type.String()),
  ima_measurement_list: Type.Optional(Type.String()),
  ima_measurement_list_entry: Type.Optional(Type.Integer({ minimum: 0 })),
  mb_measurement_list: Type.Optional(Type.String()),
  boottime: Type.Optional(Type.Integer()),
});
export type QuoteResults = Static<typeof QuoteResults>;
