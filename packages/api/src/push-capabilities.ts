import { type Static, Type } from 'typebox';

/** Signature schemes as capabilities name them. */
export const SIGNATURE_SCHEMES = ['ecdsa', 'ecschnorr', 'rsapss', 'rsassa'] as const;

export const QUOTE_COMPONENT_VERSION = '2.0';
export const IMA_LOG_FORMAT = 'text/plain';
export const UEFI_LOG_FORMAT = 'application/octet-stream';

const name = Type.String({ maxLength: 64 });
const names = Type.Array(name, { maxItems: 32 });

/**
 * A key that can sign quotes (spec 05 section 5.2). `public` is base64 of TPMT_PUBLIC and `local_identifier` the Name in hex:
 * neither is trusted, since the AK is the one that was enrolled. Existing agents need all six fields of a key that they are
 * sent.
 */
export const CertificationKey = Type.Object({
  key_class: Type.Enum(['asymmetric', 'symmetric']),
  key_algorithm: Type.Optional(name),
  key_size: Type.Integer({ minimum: 0, maximum: 65_536 }),
  server_identifier: Type.Optional(Type.String({ maxLength: 256 })),
  local_identifier: Type.Optional(Type.String({ maxLength: 256 })),
  public: Type.Optional(Type.String({ maxLength: 2048 })),
  allowable_signature_schemes: Type.Optional(Type.Union([names, Type.Null()])),
  allowable_hash_algorithms: Type.Optional(Type.Union([names, Type.Null()])),
});
export type CertificationKey = Static<typeof CertificationKey>;

const pcrs = Type.Array(Type.Integer({ minimum: 0, maximum: 31 }), { maxItems: 32 });

/** `capabilities` of `tpm_quote`: `available_subjects` has the PCRs of each bank; longer names of banks are passed over. */
export const QuoteCapabilities = Type.Object({
  component_version: Type.String({ maxLength: 64 }),
  hash_algorithms: names,
  signature_schemes: Type.Array(name, { minItems: 1, maxItems: 32 }),
  available_subjects: Type.Record(Type.String({ pattern: '^.{1,64}$' }), pcrs, { maxProperties: 16 }),
  certification_keys: Type.Array(CertificationKey, { minItems: 1, maxItems: 16 }),
});
export type QuoteCapabilities = Static<typeof QuoteCapabilities>;

/** `capabilities` of `uefi_log` and `ima_log`. */
export const LogCapabilities = Type.Object({
  evidence_version: Type.Optional(Type.Union([Type.String({ maxLength: 64 }), Type.Null()])),
  entry_count: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.Null()])),
  supports_partial_access: Type.Optional(Type.Boolean()),
  appendable: Type.Optional(Type.Boolean()),
  formats: names,
});
export type LogCapabilities = Static<typeof LogCapabilities>;

/** One element of `evidence_supported`, its capabilities not looked at: those of unknown types are passed over. */
export const SupportedEvidence = Type.Object({
  evidence_class: Type.Enum(['certification', 'log']),
  evidence_type: Type.String({ minLength: 1, maxLength: 64 }),
  capabilities: Type.Object({}),
});

/** `boot_time` is a hint: reboots are found by the TPM's reset count. */
export const SystemInfo = Type.Object({
  boot_time: Type.Union([Type.String({ maxLength: 64 }), Type.Number()]),
});

/** Attributes of POST /agents/:id/attestations. */
export const CapabilitiesAttributes = Type.Object({
  evidence_supported: Type.Array(SupportedEvidence, { minItems: 1, maxItems: 32 }),
  system_info: SystemInfo,
});
export type CapabilitiesAttributes = Static<typeof CapabilitiesAttributes>;

/** What an agent can do, as it says so: attributes of POST /agents/:id/attestations with the three known types. */
export type OfferedAttributes = {
  readonly evidence_supported: readonly (
    | {
        readonly evidence_class: 'certification';
        readonly evidence_type: 'tpm_quote';
        readonly capabilities: QuoteCapabilities;
      }
    | {
        readonly evidence_class: 'log';
        readonly evidence_type: 'uefi_log' | 'ima_log';
        readonly capabilities: LogCapabilities;
      }
  )[];
  readonly system_info: { readonly boot_time: string };
};
