import {
  bad,
  boolean,
  custom,
  decimal,
  good,
  integer,
  list,
  type Option,
  port,
  readItems,
  secret,
  text,
} from '../options.ts';

/** Names of TPM algorithms as operators write them. What they mean is decided where they are used. */
const algorithms = (fallback: string, doc: string): Option<readonly string[]> =>
  custom(
    'list',
    fallback,
    doc,
    (raw) => {
      const items = readItems(raw);
      if (!items.ok) return items;
      const odd = items.value.find((item) => !/^[a-z0-9_-]+$/i.test(item));
      if (odd !== undefined) return bad(`"${odd}" is not the name of an algorithm`);
      return items.value.length > 0 ? good(items.value) : bad('an empty list would accept no agent');
    },
    { list: true },
  );

/** `[tenant]` of tenant.conf. */
export const tenantOptions = {
  version: text('2.6', 'Version of the configuration schema; only told, never acted upon.'),
  verifier_ip: text('127.0.0.1', 'Address of the verifier.'),
  verifier_port: port(8881, 'HTTPS port of the verifier.'),
  registrar_ip: text('127.0.0.1', 'Address of the registrar.'),
  registrar_port: port(8891, 'HTTPS port of the registrar.'),
  tls_dir: text(
    'default',
    'Folder of certificates: `default` (the verifier’s `cv_ca`) or a folder, relative to the work directory.',
  ),
  enable_agent_mtls: boolean(true, 'Speak HTTPS with mutual authentication to agents. Off: keys travel in clear.'),
  client_key: text('default', 'Private key: `default` or a file, relative to `tls_dir`.'),
  client_key_password: secret('Password of `client_key`.'),
  client_cert: text('default', 'Certificate: `default` or a file, relative to `tls_dir`.'),
  trusted_server_ca: list(
    'default',
    'CA certificates that connections trust: `default` or a list of files, relative to `tls_dir`.',
  ),
  tpm_cert_store: text('/var/lib/keylime/tpm_cert_store', 'Folder of the CA certificates of TPM makers.'),
  max_payload_size: integer(1_048_576, 1024, 2 ** 31, 'Largest encrypted payload in bytes, counted in base64.'),
  accept_tpm_hash_algs: algorithms("['sha512', 'sha384', 'sha256']", 'Hash algorithms that an agent may use.'),
  accept_tpm_encryption_algs: algorithms("['ecc', 'rsa']", 'Kinds of EK that an agent may use.'),
  accept_tpm_signing_algs: algorithms("['ecschnorr', 'rsassa']", 'Signature schemes that an agent may use.'),
  exponential_backoff: boolean(true, 'Wait `retry_interval` to the power of the attempt before a retry.'),
  retry_interval: decimal(2, 0, 3600, 'Seconds before a retry (the base, with `exponential_backoff`).'),
  max_retries: integer(5, 0, 1000, 'Attempts in total.'),
  request_timeout: decimal(60, 0.1, 3600, 'Seconds that one request may take.'),
  require_ek_cert: boolean(true, 'Refuse an agent whose EK certificate does not chain to `tpm_cert_store`.'),
  ek_check_script: text('', 'Script that may refuse an agent by its EK: absolute, or relative to the work directory.'),
  mb_refstate: text('', 'Measured-boot reference state for `--mb-policy default`.'),
} as const;
