import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Model } from './launchers.ts';

type Options = Readonly<Record<string, string | number | boolean>>;

const ini = (sections: Readonly<Record<string, Options>>): string =>
  Object.entries(sections)
    .map(([name, options]) => {
      const lines = Object.entries(options).map(
        ([key, value]) => `${key} = ${value === true ? 'True' : value === false ? 'False' : value}`,
      );
      return `[${name}]\n${lines.join('\n')}\n`;
    })
    .join('\n');

const toml = (table: string, options: Options): string =>
  `[${table}]\n${Object.entries(options)
    .map(([key, value]) => `${key} = ${typeof value === 'string' ? JSON.stringify(value) : value}`)
    .join('\n')}\n`;

const LOGGING = `[logging]
[loggers]
keys = root,keylime
[handlers]
keys = consoleHandler
[formatters]
keys = formatter
[formatter_formatter]
format = %(asctime)s.%(msecs)03d - %(name)s - %(levelname)s - %(message)s
datefmt = %Y-%m-%d %H:%M:%S
[logger_root]
level = INFO
handlers = consoleHandler
[handler_consoleHandler]
class = StreamHandler
level = INFO
formatter = formatter
args = (sys.stdout,)
[logger_keylime]
level = INFO
qualname = keylime
handlers =
`;

// The options of the shipped files with their defaults (keylime 7.14.3, configuration schema 2.6): the existing
// programs take some from nowhere else.
const DURABLE = {
  durable_attestation_import: '',
  persistent_store_url: '',
  transparency_log_url: '',
  time_stamp_authority_url: '',
  time_stamp_authority_certs_path: '',
  persistent_store_format: 'json',
  persistent_store_encoding: '',
  transparency_log_sign_algo: 'sha256',
};

export type Ports = {
  readonly verifier: number;
  readonly registrar: number;
  readonly registrarTls: number;
  readonly agent: number;
};

export type Settings = {
  readonly model: Model;
  readonly ports: Ports;
  /** KEYLIME_DIR of registrar, verifier and tenant: `cv_ca` and the databases. */
  readonly servicesFolder: string;
  /** KEYLIME_DIR of the agent. */
  readonly agentFolder: string;
  readonly certStore: string;
  readonly measurementList: string;
  readonly bootLog: string;
  readonly agentId: string;
  readonly webhookUrl: string;
  readonly quoteIntervalSeconds: number;
  readonly verifierWorkers: number;
};

const verifierIni = (s: Settings) =>
  ini({
    verifier: {
      version: '2.6',
      uuid: 'default',
      ip: '127.0.0.1',
      port: s.ports.verifier,
      registrar_ip: '127.0.0.1',
      registrar_port: s.ports.registrarTls,
      enable_agent_mtls: true,
      tls_dir: 'generate',
      server_key: 'default',
      server_key_password: '',
      server_cert: 'default',
      trusted_client_ca: 'default',
      client_key: 'default',
      client_key_password: '',
      client_cert: 'default',
      trusted_server_ca: 'default',
      cert_subject_alternative_names: '',
      authorization_provider: 'simple',
      database_url: 'sqlite',
      database_pool_sz_ovfl: '5,10',
      auto_migrate_db: true,
      num_workers: 0,
      max_workers: s.verifierWorkers,
      exponential_backoff: false,
      retry_interval: 1,
      max_retries: 15,
      quote_interval: s.quoteIntervalSeconds,
      max_upload_size: 104857600,
      request_timeout: '60.0',
      measured_boot_policy_name: 'example',
      measured_boot_imports: '[]',
      measured_boot_evaluate: 'once',
      severity_labels: '["info", "notice", "warning", "error", "critical", "alert", "emergency"]',
      severity_policy: '[{"event_id": ".*", "severity_label": "emergency"}]',
      ignore_tomtou_errors: false,
      ...DURABLE,
      signed_attributes: '',
      require_allow_list_signatures: false,
      mode: s.model,
      challenge_lifetime: 1800,
      verification_timeout: 0,
      session_create_rate_limit_per_ip: 50,
      session_create_rate_limit_window_ip: 60,
      session_create_rate_limit_per_agent: 15,
      session_create_rate_limit_window_agent: 60,
      session_lifetime: 180,
      extend_token_on_attestation: true,
      auto_recover_attestation_failures: false,
      shutdown_drain_timeout: 10,
    },
    revocations: {
      enabled_revocation_notifications: "['agent', 'webhook']",
      zmq_ip: '127.0.0.1',
      zmq_port: 8992,
      webhook_url: s.webhookUrl,
    },
  });

const registrarIni = (s: Settings) =>
  ini({
    registrar: {
      version: '2.6',
      ip: '127.0.0.1',
      port: s.ports.registrar,
      tls_port: s.ports.registrarTls,
      tls_dir: 'default',
      server_key: 'default',
      server_key_password: '',
      server_cert: 'default',
      trusted_client_ca: 'default',
      cert_subject_alternative_names: '',
      authorization_provider: 'simple',
      database_url: 'sqlite',
      database_pool_sz_ovfl: '5,10',
      auto_migrate_db: true,
      max_workers: 1,
      ...DURABLE,
      signed_attributes: 'ek_tpm,aik_tpm,ekcert',
      tpm_identity: 'default',
      malformed_cert_action: 'warn',
    },
  });

const tenantIni = (s: Settings) =>
  ini({
    tenant: {
      version: '2.6',
      verifier_ip: '127.0.0.1',
      verifier_port: s.ports.verifier,
      registrar_ip: '127.0.0.1',
      registrar_port: s.ports.registrarTls,
      tls_dir: 'default',
      enable_agent_mtls: true,
      client_key: 'default',
      client_key_password: '',
      client_cert: 'default',
      trusted_server_ca: 'default',
      tpm_cert_store: s.certStore,
      max_payload_size: 1048576,
      accept_tpm_hash_algs: "['sha512', 'sha384', 'sha256']",
      accept_tpm_encryption_algs: "['ecc', 'rsa']",
      accept_tpm_signing_algs: "['ecschnorr', 'rsassa']",
      exponential_backoff: true,
      retry_interval: 2,
      max_retries: 5,
      request_timeout: 60,
      require_ek_cert: true,
      ek_check_script: '',
      mb_refstate: '',
    },
  });

const CA_INI = ini({
  ca: {
    version: '2.6',
    // With `default` the existing tenant would ask for it on a terminal.
    password: 'interop',
    cert_country: 'US',
    cert_ca_name: 'Keylime Certificate Authority',
    cert_state: 'MA',
    cert_locality: 'Lexington',
    cert_organization: 'Keylime',
    cert_org_unit: '53',
    cert_ca_lifetime: 3650,
    cert_lifetime: 365,
    cert_bits: 2048,
    cert_crl_dist: 'http://localhost:38080/crl',
  },
});

const agentToml = (s: Settings) =>
  toml('agent', {
    version: '2.5',
    uuid: s.agentId,
    ip: '127.0.0.1',
    port: s.ports.agent,
    contact_ip: '127.0.0.1',
    contact_port: s.ports.agent,
    registrar_ip: '127.0.0.1',
    registrar_port: s.ports.registrar,
    enable_agent_mtls: true,
    keylime_dir: s.agentFolder,
    server_key: 'default',
    server_cert: 'default',
    trusted_client_ca: join(s.servicesFolder, 'cv_ca', 'cacert.crt'),
    run_as: '',
    verifier_url: `https://127.0.0.1:${s.ports.verifier}`,
    verifier_tls_ca_cert: join(s.servicesFolder, 'cv_ca', 'cacert.crt'),
    // Also between attempts before the enrolment: the existing verifier takes 15 a minute of an agent.
    attestation_interval_seconds: 5,
    ima_ml_path: s.measurementList,
    measuredboot_ml_path: s.bootLog,
    tpm_hash_alg: 'sha256',
    tpm_encryption_alg: 'rsa',
    tpm_signing_alg: 'rsassa',
    enable_revocation_notifications: false,
    exponential_backoff_initial_delay: 500,
    exponential_backoff_max_retries: 5,
    exponential_backoff_max_delay: 5000,
  });

/** Environment that makes each program read the files written by `writeConfiguration`, and no others. */
export type Environments = { readonly services: Record<string, string>; readonly agent: Record<string, string> };

/** Writes the configuration files of all programs into `folder`, as the existing programs have them. */
export async function writeConfiguration(folder: string, settings: Settings): Promise<Environments> {
  await mkdir(folder, { recursive: true });
  const services: Record<string, string> = { KEYLIME_DIR: settings.servicesFolder };
  const files = {
    verifier: verifierIni(settings),
    registrar: registrarIni(settings),
    tenant: tenantIni(settings),
    ca: CA_INI,
    logging: LOGGING,
  };
  for (const [name, text] of Object.entries(files)) {
    const file = join(folder, `${name}.conf`);
    await writeFile(file, text, { mode: 0o600 });
    services[`KEYLIME_${name.toUpperCase()}_CONFIG`] = file;
  }
  const file = join(folder, 'agent.conf');
  await writeFile(file, agentToml(settings), { mode: 0o600 });
  return {
    services,
    agent: {
      KEYLIME_AGENT_CONFIG: file,
      KEYLIME_DIR: settings.agentFolder,
      RUST_LOG: 'keylime_agent=info,keylime_push_model_agent=info,keylime=info',
    },
  };
}
