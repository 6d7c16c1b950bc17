import { bad, choice, custom, good, integer, secret, strip, text } from '../options.ts';

/** `[ca]` of ca.conf. */
export const caOptions = {
  version: text('2.6', 'Version of the configuration schema; only told, never acted upon.'),
  password: secret(
    'Password of the CA’s key store. `default`: services use this very word, `keylime_ca` and `keylime_tenant` ask for it.',
    'default',
  ),
  password_file: text('', 'File whose first line is the password of the key store, in place of `password`.'),
  cert_country: custom('two letters', 'US', 'Country in certificates.', (raw) =>
    /^[A-Za-z]{2}$/.test(strip(raw)) ? good(strip(raw)) : bad('expected exactly two letters'),
  ),
  cert_ca_name: text('Keylime Certificate Authority', 'Common name of the CA.'),
  cert_state: text('MA', 'State in certificates.'),
  cert_locality: text('Lexington', 'Locality in certificates.'),
  cert_organization: text('Keylime', 'Organization in certificates.'),
  cert_org_unit: text('53', 'Organizational unit in certificates.'),
  cert_ca_lifetime: integer(3650, 1, 36_500, 'Days that the CA certificate is good for.'),
  cert_lifetime: integer(365, 1, 36_500, 'Days that other certificates are good for.'),
  cert_key_type: choice(
    ['rsa', 'p256', 'p384', 'ed25519'],
    'rsa',
    'Kind of the keys of CA and certificates. The existing programs can use a CA, but not issue with it, unless it is `rsa`.',
  ),
  cert_bits: integer(2048, 2048, 8192, 'Size of RSA keys.'),
  cert_crl_dist: text('http://localhost:38080/crl', 'CRL distribution point in certificates.'),
} as const;
