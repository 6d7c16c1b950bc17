import { compareApiVersions } from '../versions.ts';

/**
 * Asymmetric key types as `enc_alg` and `tpm_enc_alg` name them from API version 2.5 on, and the names that older versions
 * use: only the two commonest differ (spec 01 section 1.2).
 */
const SHORT_NAMES: { readonly [name: string]: string } = { rsa2048: 'rsa', ecc256: 'ecc' };
const LONG_NAMES: { readonly [name: string]: string } = { rsa: 'rsa2048', ecc: 'ecc256' };

/** What an agent calls key type `name` (`rsa2048`, `ecc384`, ...) in API version `version`. */
export const encAlgName = (name: string, version: string): string =>
  compareApiVersions(version, '2.5') < 0 ? (SHORT_NAMES[name] ?? name) : name;

/** The one name of a key type whatever the version of the API that it came over: `rsa` is `rsa2048`, `ecc` is `ecc256`. */
export const normalEncAlgName = (name: string): string => LONG_NAMES[name] ?? name;
