import { isIP } from 'node:net';
import path from 'node:path';
import {
  bad,
  boolean,
  choice,
  custom,
  good,
  integer,
  list,
  type Option,
  port,
  type Reading,
  readItems,
  secret,
  strip,
  text,
} from '../options.ts';

/** A file: `default` or empty means `name`, relative means below `keylime_dir`. Reads as an absolute path. */
const file = (name: string, doc: string): Option<string> =>
  custom(
    'path',
    'default',
    `${doc} \`default\` is \`${name}\`; relative means below \`keylime_dir\`.`,
    (raw, { workDir }) => {
      const value = strip(raw);
      return good(path.resolve(workDir, value === 'default' ? name : value));
    },
    { emptyIsDefault: true },
  );

/** Like `file`, but an empty value means that there is none. */
const fileOrNone = (name: string, doc: string): Option<string | undefined> =>
  custom(
    'path',
    'default',
    `${doc} \`default\` is \`${name}\`; relative means below \`keylime_dir\`; empty means none.`,
    (raw, { workDir }) => {
      const value = strip(raw);
      return good(value === '' ? undefined : path.resolve(workDir, value === 'default' ? name : value));
    },
  );

/** A file that only the operator can name. */
const namedFile = (doc: string): Option<string | undefined> =>
  custom('path', '', doc, (raw, { workDir }) => {
    const value = strip(raw);
    return good(value === '' ? undefined : path.resolve(workDir, value));
  });

const files = (name: string, doc: string): Option<readonly [string, ...string[]]> =>
  custom(
    'list of paths',
    'default',
    `${doc} \`default\` is \`${name}\`; relative means below \`keylime_dir\`.`,
    (raw, { workDir }) => {
      const items = readItems(raw);
      if (!items.ok) return items;
      const [first, ...rest] = items.value.map((item) => path.resolve(workDir, item === 'default' ? name : item));
      return first === undefined ? bad('an empty list would let nobody connect') : good([first, ...rest]);
    },
    { list: true },
  );

function isAddressOrSubnet(text: string): boolean {
  const [, address = '', bits = '0'] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && !address.includes('%') && Number(bits) <= (family === 4 ? 32 : 128);
}

const systemFile = (fallback: string, doc: string): Option<string> =>
  custom('path', fallback, doc, (raw) => good(path.resolve('/', strip(raw) === 'default' ? fallback : strip(raw))), {
    emptyIsDefault: true,
  });

/** IP address (brackets around IPv6 are stripped) or RFC 1123 host name. */
const host = (fallback: string, doc: string): Option<string> =>
  custom('address or host name', fallback, doc, (raw): Reading<string> => {
    const value = strip(raw).replace(/^\[(.*)\]$/, '$1');
    const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
    if (isIP(value) !== 0) return good(value);
    if (value.length <= 253 && !/^[\d.]+$/.test(value) && new RegExp(`^${label}(\\.${label})*\\.?$`).test(value))
      return good(value);
    return bad('expected an IP address or a host name');
  });

/** Dashed or bare, perhaps in braces or as URN. */
const UUID = /^(urn:uuid:)?(\{?)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}(\}?)$/;

type Versions = 'default' | 'latest' | readonly string[];

const versions = (doc: string): Option<Versions> =>
  custom<Versions>(
    '`default`, `latest` or a list',
    'default',
    doc,
    (raw) => {
      const items = readItems(raw);
      if (!items.ok) return items;
      const [only = 'default', ...more] = items.value;
      if (more.length === 0 && (only === 'default' || only === 'latest')) return good(only);
      const odd = items.value.find((item) => !/^\d+\.\d+$/.test(item));
      return odd === undefined ? good(items.value) : bad(`"${odd}" is not a version like 2.5`);
    },
    { list: true },
  );

/** A persistent TPM handle, or `undefined` for the words in `none`. */
const handle = (fallback: string, none: readonly string[], doc: string): Option<number | undefined> =>
  custom('persistent handle', fallback, doc, (raw) => {
    const value = strip(raw);
    if (none.includes(value)) return good(undefined);
    return /^0[xX]81[0-9a-fA-F]{6}$/.test(value)
      ? good(Number(value))
      : bad('expected a persistent handle like 0x81010001');
  });

const HASHES = ['sha1', 'sha256', 'sha384', 'sha512', 'sm3_256'] as const;
const KEYS = [
  'rsa',
  'rsa1024',
  'rsa2048',
  'rsa3072',
  'rsa4096',
  'ecc',
  'ecc192',
  'ecc224',
  'ecc256',
  'ecc384',
  'ecc521',
  'ecc_sm2',
  'ecc_nist_p192',
  'ecc_nist_p224',
  'ecc_nist_p256',
  'ecc_nist_p384',
  'ecc_nist_p521',
] as const;

/** `[agent]` of the TOML file agent.conf. */
export const agentOptions = {
  version: text('2.0', 'Version of the configuration schema; only told, never acted upon.'),
  mode: choice(
    ['pull', 'push'],
    'pull',
    'Who starts an attestation: the verifier, which asks this agent (`pull`), or this agent, which sends to `verifier_url` (`push`).',
  ),
  push_listen: boolean(
    false,
    'Push: listen on `ip` and `port` all the same, for payloads and for revocations over HTTPS.',
  ),
  api_versions: versions('API versions that are spoken with the verifier.'),
  uuid: custom(
    'UUID, `hash_ek`, `generate`',
    'd432fbb3-d2f1-4a97-9ef7-75bd81c00000',
    'Name of this machine: a UUID, `hash_ek` (the hash of its EK) or `generate` (a random UUID, made once and kept).',
    (raw) => {
      const value = strip(raw).toLowerCase();
      return value === 'hash_ek' || value === 'generate' || UUID.test(value)
        ? good(value)
        : bad('expected a UUID, hash_ek or generate');
    },
  ),
  ip: host('127.0.0.1', 'Address to listen on.'),
  port: port(9002, 'Port to listen on.'),
  contact_ip: host('127.0.0.1', 'Address that the verifier is told to use.'),
  contact_port: port(9002, 'Port that the verifier is told to use.'),
  registrar_ip: host('127.0.0.1', 'Address of the registrar.'),
  registrar_port: port(8890, 'HTTP port of the registrar.'),
  registrar_tls_enabled: boolean(false, 'Register over HTTPS.'),
  registrar_tls_port: port(8891, 'HTTPS port of the registrar.'),
  registrar_tls_ca_cert: file('cv_ca/cacert.crt', 'CA certificate of the registrar.'),
  registrar_api_versions: versions('API versions that are spoken with the registrar.'),
  enable_agent_mtls: boolean(
    true,
    'Serve HTTPS and ask for a client certificate. Off: keys and evidence travel in clear.',
  ),
  keylime_dir: text('/var/lib/keylime', 'Work directory; the variable `KEYLIME_DIR` beats it.', {
    emptyIsDefault: true,
  }),
  server_key: file('server-private.pem', 'Private key of the server; made if absent.'),
  server_key_password: secret('Password of `server_key`.'),
  server_cert: file('server-cert.crt', 'Certificate of the server; made if absent.'),
  trusted_client_ca: files('cv_ca/cacert.crt', 'CA certificates whose client certificates are accepted.'),
  payload_key: file('payload-private.pem', 'RSA-2048 key that payload keys are encrypted to; made if absent.'),
  payload_key_password: secret('Password of `payload_key`.'),
  agent_data_path: file('agent_data.json', 'Where the AK is kept.'),
  enc_keyname: text('derived_tci_key', 'Name of the file with the payload key.'),
  dec_payload_file: text('decrypted_payload', 'Name of the file with the payload.'),
  secure_size: custom('size', '1m', 'Size of the tmpfs for secrets, in the syntax of mount.', (raw) =>
    /^\d{1,12}[kKmMgG%]?$/.test(strip(raw)) ? good(strip(raw)) : bad('expected a size like 1m'),
  ),
  extract_payload_zip: boolean(true, 'Unpack a payload that is a ZIP file.'),
  payload_script: text('autorun.sh', 'Script of the payload to run; empty for none.'),
  payload_script_timeout: integer(600, 1, 86_400, 'Seconds after which `payload_script` is stopped.'),
  enable_insecure_payload: boolean(false, 'Run payloads although `enable_agent_mtls` is off.'),
  allow_payload_revocation_actions: boolean(true, 'Run revocation actions that came with a payload.'),
  revocation_actions_dir: text('/usr/libexec/keylime', 'Folder of installed revocation actions.'),
  revocation_actions: list('[]', 'Revocation actions to run.'),
  revocation_action_timeout: integer(60, 1, 3_600, 'Seconds after which a revocation action is stopped.'),
  revocation_block_peer: boolean(
    false,
    'Built-in revocation action: drop all packets from and to a revoked machine, with nftables.',
  ),
  revocation_block_never: custom(
    'list of addresses',
    '[]',
    'Addresses that `revocation_block_peer` never blocks, each an IP address or `ADDRESS/BITS`: verifier, registrar, gateway, name servers. Those of this machine never are.',
    (raw) => {
      const items = readItems(raw);
      const odd = items.ok ? items.value.find((item) => !isAddressOrSubnet(item)) : undefined;
      return odd === undefined ? items : bad(`"${odd}" is no IP address, and no ADDRESS/BITS`);
    },
    { list: true },
  ),
  revocation_crl_ca_dir: custom(
    'path',
    '',
    'Built-in revocation action: folder of the CA on whose CRL the certificate of a revoked machine is put; empty means none.',
    (raw, { workDir }) => good(strip(raw) === '' ? undefined : path.resolve(workDir, strip(raw))),
  ),
  revocation_crl_ca_password: secret('Password of the key store in `revocation_crl_ca_dir`.'),
  revocation_cert: file(
    'secure/unzipped/RevocationNotifier-cert.crt',
    'Certificate that revocations must be signed with.',
  ),
  revocation_verifier_certs: custom(
    'list of paths',
    '[]',
    'Files with more certificates that revocations may be signed with, such as those that `keylime_tenant -c revocationcerts` prints; relative means below `keylime_dir`.',
    (raw, { workDir }) => {
      const items = readItems(raw);
      return items.ok ? good(items.value.map((item) => path.resolve(workDir, item))) : items;
    },
    { list: true },
  ),
  revocation_nats_url: list(
    '[]',
    'Take revocations from these NATS servers of one cluster: `nats://HOST:PORT` or `tls://HOST:PORT`; empty means none.',
  ),
  revocation_nats_subject: text('keylime.revocations', 'Subject below which the verifier publishes them.'),
  revocation_nats_stream: text('keylime_revocations', 'JetStream stream that keeps them.'),
  revocation_nats_credentials: namedFile(
    'File with NATS credentials: `.creds`, or the seed of a user NKey; empty for none, relative means below `keylime_dir`.',
  ),
  revocation_nats_user: text('', 'User that NATS knows the agent by, with `revocation_nats_password`.'),
  revocation_nats_password: secret(
    'Password of `revocation_nats_user`; not for servers that are reached in the clear.',
  ),
  revocation_nats_token: secret(
    'Token that NATS lets the agent in with; not for servers that are reached in the clear.',
  ),
  revocation_nats_client_cert: namedFile(
    'Certificate that `tls://` servers are shown, such as the one of the payload (`secure/unzipped/ID-cert.crt`); empty for none, relative means below `keylime_dir`.',
  ),
  revocation_nats_client_key: namedFile('Private key of `revocation_nats_client_cert`.'),
  revocation_nats_client_key_password: secret('Password of `revocation_nats_client_key`.'),
  revocation_nats_ca: files('cv_ca/cacert.crt', 'CA certificates that `tls://` servers must have one of.'),
  enable_revocation_notifications: boolean(false, 'Listen for revocations over ZeroMQ.'),
  revocation_notification_ip: text('127.0.0.1', 'Address of the ZeroMQ publisher.'),
  revocation_notification_port: port(8992, 'Port of the ZeroMQ publisher.'),
  tpm_hash_alg: choice(HASHES, 'sha256', 'Hash algorithm: PCR bank and signatures.'),
  tpm_encryption_alg: choice(KEYS, 'rsa', 'Kind of EK; `rsa` is `rsa2048`, `ecc` is `ecc256`.'),
  tpm_signing_alg: choice(['rsassa', 'rsapss', 'ecdsa', 'ecschnorr'], 'rsassa', 'Signature scheme of the AK.'),
  ek_handle: handle('generate', ['generate', 'default', ''], 'Persistent EK, or `generate` to create it.'),
  tpm_ownerpassword: secret('Authorization of the endorsement hierarchy; `hex:` before hexadecimal.'),
  enable_iak_idevid: boolean(false, 'Register with IAK and IDevID.'),
  iak_idevid_template: text('detect', 'Key template: `detect` (from the certificate), `H-1` to `H-5`, or `manual`.'),
  iak_idevid_asymmetric_alg: choice(KEYS, 'rsa', 'Key algorithm for the template `manual`.'),
  iak_idevid_name_alg: choice(HASHES, 'sha256', 'Name algorithm for the template `manual`.'),
  iak_handle: handle('', [''], 'Persistent IAK; beats the template.'),
  idevid_handle: handle('', [''], 'Persistent IDevID; beats the template.'),
  iak_password: secret('Authorization of the IAK; `hex:` before hexadecimal.'),
  idevid_password: secret('Authorization of the IDevID; `hex:` before hexadecimal.'),
  iak_cert: fileOrNone('iak-cert.crt', 'IAK certificate, DER or PEM.'),
  idevid_cert: fileOrNone('idevid-cert.crt', 'IDevID certificate, DER or PEM.'),
  run_as: custom(
    '`USER:GROUP`',
    'keylime:tss',
    'User and group to become after start, when started as root. Empty stays root.',
    (raw) => (/^([A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+)?$/.test(strip(raw)) ? good(strip(raw)) : bad('expected user:group')),
  ),
  ima_ml_path: systemFile('/sys/kernel/security/ima/ascii_runtime_measurements', 'IMA measurement list, in ASCII.'),
  measuredboot_ml_path: systemFile('/sys/kernel/security/tpm0/binary_bios_measurements', 'TCG boot event log.'),
  exponential_backoff_initial_delay: integer(
    10_000,
    0,
    86_400_000,
    'Milliseconds before the first retry of a registration. Push: also of an attestation.',
  ),
  exponential_backoff_max_retries: integer(
    5,
    0,
    1_000_000,
    'Retries of a registration, after which a pull agent ends; a push agent never gives up.',
  ),
  exponential_backoff_max_delay: integer(300_000, 0, 86_400_000, 'Most milliseconds between two retries.'),
  verifier_url: custom(
    'URL',
    'https://localhost:8881',
    'Push: the verifier, `https://HOST:PORT`.',
    (raw) =>
      URL.canParse(strip(raw)) && /^https?:/.test(strip(raw))
        ? good(strip(raw))
        : bad('expected a URL like https://host:8881'),
    { emptyIsDefault: true },
  ),
  verifier_tls_ca_cert: file('cv_ca/cacert.crt', 'Push: CA certificates of the verifier. No others are trusted.'),
  attestation_interval_seconds: integer(
    60,
    1,
    86_400,
    'Push: seconds between attestations when the verifier names none, and at most between two attempts when it refuses.',
  ),
  certification_keys_server_identifier: text('ak', 'Push: name of the AK in evidence.', { emptyIsDefault: true }),
  uefi_logs_evidence_version: text('2.1', 'Push: version of boot log evidence.', { emptyIsDefault: true }),
  tls_accept_invalid_certs: boolean(false, 'Push: refused when on, for evidence and tokens would go to anybody.'),
  tls_accept_invalid_hostnames: boolean(
    false,
    'Push: accept a certificate of `verifier_tls_ca_cert` that is for another host. Insecure.',
  ),
} as const;
