import { boolean, choice, integer, port, text } from '../options.ts';
import { poolSize, serverTls } from './shared.ts';

/** `[registrar]` of registrar.conf. */
export const registrarOptions = {
  version: text('2.6', 'Version of the configuration schema; only told, never acted upon.'),
  ip: text('127.0.0.1', 'Address to listen on; `0.0.0.0` or `::` for all.'),
  port: port(8890, 'HTTP port, for the registration of agents.'),
  tls_port: port(8891, 'HTTPS port, for operators and verifiers.'),
  ...serverTls('default'),
  authorization_provider: choice(['simple'], 'simple', 'Who may do what.'),
  database_url: text('sqlite', 'Database: `sqlite`, `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.', {
    secret: true,
  }),
  database_pool_sz_ovfl: poolSize,
  auto_migrate_db: boolean(
    true,
    'Bring the database to the newest schema at start. Off: refuse to start on an older one.',
  ),
  max_workers: integer(16, 0, 1024, 'Most worker processes; 0 means as many as there are processors.'),
  max_upload_size: integer(104_857_600, 1024, 2 ** 31, 'Largest request body in bytes.'),
  durable_attestation_import: text('', 'Python module of a durable attestation backend; must be empty here.'),
  persistent_store_url: text('', 'Durable attestation: where records go.', { secret: true }),
  transparency_log_url: text('', 'Durable attestation: transparency log.'),
  time_stamp_authority_url: text('', 'Durable attestation: time stamp authority.'),
  time_stamp_authority_certs_path: text('', 'Durable attestation: certificates of the time stamp authority.'),
  persistent_store_format: text('json', 'Durable attestation: format of a record.'),
  persistent_store_encoding: text('', 'Durable attestation: encoding of a record.'),
  transparency_log_sign_algo: text('sha256', 'Durable attestation: hash of signatures.'),
  signed_attributes: text('ek_tpm,aik_tpm,ekcert', 'Durable attestation: what is signed.'),
  tpm_identity: choice(
    ['default', 'ek_cert_or_iak_idevid', 'ek_cert', 'iak_idevid'],
    'default',
    'What an agent must prove itself with; `default` is `ek_cert_or_iak_idevid`.',
  ),
  malformed_cert_action: choice(
    ['warn', 'reject', 'ignore'],
    'warn',
    'What to do with a certificate that is not strict DER.',
  ),
} as const;
