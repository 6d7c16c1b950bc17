import type { CaOptions } from './issue.ts';
import type { KeyType } from './private-key.ts';

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
