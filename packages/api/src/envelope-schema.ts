import { type TSchema, Type } from 'typebox';

/** Schema of an `Envelope` with `results`. Apart from it, so that clients which check nothing by schema load none. */
export const EnvelopeOf = <Results extends TSchema>(results: Results) =>
  Type.Object({ code: Type.Integer(), status: Type.String(), results });
