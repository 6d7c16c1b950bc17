import { type Static, Type } from 'typebox';
import { CertificationKey } from './push-capabilities.ts';

/**
 * What a verifier chose for the quote (spec 05 section 5.4). `challenge` is base64 of the bytes that go into `extraData`.
 * `hash_algorithm` is both the hash of the signature and the PCR bank; the other banks of `selected_subjects` are null.
 */
export const QuoteParameters = Type.Object({
  challenge: Type.String({ minLength: 1, maxLength: 1024 }),
  signature_scheme: Type.String(),
  hash_algorithm: Type.String(),
  selected_subjects: Type.Record(
    Type.String(),
    Type.Union([Type.Array(Type.Integer({ minimum: 0, maximum: 31 }), { maxItems: 32 }), Type.Null()]),
  ),
  certification_key: Type.Optional(Type.Union([CertificationKey, Type.Null()])),
});
export type QuoteParameters = Static<typeof QuoteParameters>;

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));

/**
 * What a verifier chose for a log: from which entry on, at most how many entries (absent: all there are), and how they are
 * written. [compat] Existing agents need `format` in every log's parameters.
 */
export const LogParameters = Type.Object({
  starting_offset: Nullable(Type.Integer({ minimum: 0 })),
  entry_count: Nullable(Type.Integer({ minimum: 0 })),
  format: Nullable(Type.String()),
});
export type LogParameters = Static<typeof LogParameters>;

/** One piece of evidence that a verifier wants. */
export const RequestedEvidence = Type.Union([
  Type.Object({
    evidence_class: Type.Literal('certification'),
    evidence_type: Type.Literal('tpm_quote'),
    chosen_parameters: QuoteParameters,
  }),
  Type.Object({
    evidence_class: Type.Literal('log'),
    evidence_type: Type.Enum(['uefi_log', 'ima_log']),
    chosen_parameters: Type.Optional(Type.Union([LogParameters, Type.Null()])),
  }),
]);
export type RequestedEvidence = Static<typeof RequestedEvidence>;

/**
 * Attributes of the answer (201) to POST /agents/:id/attestations. The agent answers with one piece of evidence for each
 * requested one, in this order; the existing verifier may request none at all.
 */
export const NegotiatedAttributes = Type.Object({
  stage: Type.String(),
  evidence_requested: Type.Array(RequestedEvidence, { maxItems: 16 }),
  challenges_expire_at: Type.Optional(Type.Union([Type.String(), Type.Null()])),
});
export type NegotiatedAttributes = Static<typeof NegotiatedAttributes>;
