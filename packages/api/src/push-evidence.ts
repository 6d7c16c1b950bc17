import { isJsonObject } from '@keylime/core/json';
import { type Static, Type } from 'typebox';
import { parseResourceAnswer } from './push-document.ts';

/**
 * A quote: TPMS_ATTEST, TPMT_SIGNATURE and the PCR values (`@keylime/tpm/pcr-blob`), each in base64. A verifier keeps them:
 * they may be as long as the largest of a TPM is in hex, and not much longer.
 */
export const CollectedQuote = Type.Object({
  evidence_class: Type.Literal('certification'),
  evidence_type: Type.Literal('tpm_quote'),
  data: Type.Object({
    message: Type.String({ maxLength: 4096 }),
    signature: Type.String({ maxLength: 4096 }),
    subject_data: Type.String({ maxLength: 40_960 }),
  }),
});

/** The boot event log in base64, empty if there is none. */
export const CollectedUefiLog = Type.Object({
  evidence_class: Type.Literal('log'),
  evidence_type: Type.Literal('uefi_log'),
  data: Type.Object({ entries: Type.String() }),
});

/** The measurement list as text, from the entry asked for on; `entry_count` lines. */
export const CollectedImaLog = Type.Object({
  evidence_class: Type.Literal('log'),
  evidence_type: Type.Literal('ima_log'),
  data: Type.Object({
    entries: Type.String(),
    entry_count: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
  }),
});

export type CollectedEvidence =
  | Static<typeof CollectedQuote>
  | Static<typeof CollectedUefiLog>
  | Static<typeof CollectedImaLog>;

/** One element of `evidence_collected`; what it must hold depends on its type. */
const AnyCollected = Type.Object({
  evidence_class: Type.Enum(['certification', 'log']),
  evidence_type: Type.String({ minLength: 1, maxLength: 64 }),
});

/** Attributes of PATCH /agents/:id/attestations/:index (spec 05 section 6.2), each element checked by its own schema. */
export const CollectedAttributes = Type.Object({
  evidence_collected: Type.Array(AnyCollected, { maxItems: 16 }),
});

/** What an agent sends: attributes of a resource of type `attestation`. */
export const collectedAttributes = (evidence: readonly CollectedEvidence[]) => ({ evidence_collected: evidence });

/** [compat] How an agent says that it could not collect what was asked for: attributes of a resource of type `error`. */
export const NOTHING_COLLECTED = { evidence_collected: [] } as const;

/** The name of the member of `meta` in a 202 answer that says when the next attestation is wanted. */
export const SECONDS_TO_NEXT = 'seconds_to_next_attestation';

/** Whole seconds until the next attestation, as a 202 answer says; `undefined` if it does not. */
export function secondsToNextAttestation(body: unknown): number | undefined {
  const meta = parseResourceAnswer(body)?.meta ?? (isJsonObject(body) && isJsonObject(body.meta) ? body.meta : {});
  const seconds = meta[SECONDS_TO_NEXT];
  return typeof seconds === 'number' && Number.isInteger(seconds) && seconds >= 0 ? seconds : undefined;
}
