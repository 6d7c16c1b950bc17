/**
 * What an agent says about itself. Nothing in it is proven before it was activated. Keys are TPM2B_PUBLIC with their size,
 * certificates are the bytes that were received.
 */
export type Registration = {
  readonly ekPublic: Buffer | null;
  readonly ekCertificate: Buffer | null;
  /** What came behind the EK certificate: untrusted help for whoever verifies it. */
  readonly ekIntermediates: readonly Buffer[];
  readonly akPublic: Buffer | null;
  readonly iakPublic: Buffer | null;
  readonly iakCertificate: Buffer | null;
  readonly idevidPublic: Buffer | null;
  readonly idevidCertificate: Buffer | null;
  /** IP address or host name. */
  readonly ip: string | null;
  readonly port: number | null;
  /** PEM of the agent's TLS server certificate, or `disabled`. */
  readonly mtlsCertificate: string | null;
};

/** A registration that can be activated: its challenge needs both keys. */
export type CompleteRegistration = Registration & { readonly ekPublic: Buffer; readonly akPublic: Buffer };

/** What a request carries: fields left out are not there, cleared ones are null. */
export type RegistrationRequest = {
  readonly fields: Partial<Registration>;
  /** TPM2_Certify of the AK by the IAK: TPMS_ATTEST and TPMT_SIGNATURE. */
  readonly iakAttest: Buffer | null;
  readonly iakSignature: Buffer | null;
  /** What came behind the IAK and IDevID certificates. */
  readonly deviceIntermediates: readonly Buffer[];
};

export const EMPTY_REGISTRATION: Registration = {
  ekPublic: null,
  ekCertificate: null,
  ekIntermediates: [],
  akPublic: null,
  iakPublic: null,
  iakCertificate: null,
  idevidPublic: null,
  idevidCertificate: null,
  ip: null,
  port: null,
  mtlsCertificate: null,
};

const IDENTITY_FIELDS = ['ekPublic', 'ekCertificate', 'akPublic'] as const;
const KEY_FIELDS = [...IDENTITY_FIELDS, 'iakPublic', 'iakCertificate', 'idevidPublic', 'idevidCertificate'] as const;

/**
 * Whether `next` says another EK, EK certificate or AK than the active record has (spec 02 section 2.3, R2). What the
 * record lacks may be filled in, what it has may not be cleared; what `next` leaves out is not compared.
 */
export const changesIdentity = (active: Registration, next: Partial<Registration>): boolean =>
  IDENTITY_FIELDS.some((field) => {
    const [stored, given] = [active[field], next[field]];
    if (stored === null || given === undefined) return false;
    return given === null || !given.equals(stored);
  });

/** Whether a request carries a key or a certificate of one, as opposed to contact data only. */
export const carriesKeys = (fields: Partial<Registration>): boolean =>
  KEY_FIELDS.some((field) => fields[field] !== undefined);
