import type { KeyType } from './private-key.ts';

/** Options of the automatic CA, named in `[ca]` of the configuration (spec 07 section 2.2). */
export type CaOptions = {
  readonly country: string;
  readonly caName: string;
  readonly state: string;
  readonly locality: string;
  readonly organization: string;
  readonly organizationalUnit: string;
  readonly caLifetimeDays: number;
  readonly lifetimeDays: number;
  /** Of the CA's and the certificates' keys. [compat] The existing services issue with an RSA key only. */
  readonly keyType: KeyType;
  /** Size of RSA keys. */
  readonly bits: number;
  /** CRL distribution point that stands in every certificate. */
  readonly crlUrl: string;
};

export const DEFAULT_CA_OPTIONS: CaOptions = {
  country: 'US',
  caName: 'Keylime Certificate Authority',
  state: 'MA',
  locality: 'Lexington',
  organization: 'Keylime',
  organizationalUnit: '53',
  caLifetimeDays: 3650,
  lifetimeDays: 365,
  keyType: 'rsa',
  bits: 2048,
  crlUrl: 'http://localhost:38080/crl',
};

/** `[ca]` of the configuration by the names of the file (spec 07 section 2.2). */
export type CaSettings = {
  readonly cert_country: string;
  readonly cert_ca_name: string;
  readonly cert_state: string;
  readonly cert_locality: string;
  readonly cert_organization: string;
  readonly cert_org_unit: string;
  readonly cert_ca_lifetime: number;
  readonly cert_lifetime: number;
  readonly cert_key_type: KeyType;
  readonly cert_bits: number;
  readonly cert_crl_dist: string;
};

/** What the settings ask of certificates. */
export const caOptionsOf = (settings: CaSettings): CaOptions => ({
  country: settings.cert_country,
  caName: settings.cert_ca_name,
  state: settings.cert_state,
  locality: settings.cert_locality,
  organization: settings.cert_organization,
  organizationalUnit: settings.cert_org_unit,
  caLifetimeDays: settings.cert_ca_lifetime,
  lifetimeDays: settings.cert_lifetime,
  keyType: settings.cert_key_type,
  bits: settings.cert_bits,
  crlUrl: settings.cert_crl_dist,
});
