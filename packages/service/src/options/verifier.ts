import { boolean, choice, decimal, integer, list, port, secret, text } from '../options.ts';
import { severityLabels, severityPolicy } from './severity.ts';
import { poolSize, serverTls } from './shared.ts';

const DAY_S = 86_400;

/** `[verifier]` of verifier.conf. */
export const verifierOptions = {
  version: text('2.6', 'Version of the configuration schema; only told, never acted upon.'),
  uuid: text(
    'default',
    'Name of this verifier. Verifiers that share a database attest the agents enrolled under their own name.',
  ),
  ip: text('127.0.0.1', 'Address to listen on; `0.0.0.0` or `::` for all.'),
  port: port(8881, 'HTTPS port.'),
  registrar_ip: text(
    '127.0.0.1',
    'Address of the registrar, which is asked about an agent that shows another certificate than the enrolled one; empty for none.',
  ),
  registrar_port: port(8891, 'HTTPS port of the registrar.'),
  agent_certificate_renewal: choice(
    ['same_key', 'any_key', 'off'],
    'same_key',
    'Which new certificate of an agent is taken without a new enrolment, if the registrar has it for the same TPM: one for the same key (our agents renew so), or any; `any_key` only where agents register over TLS.',
  ),
  enable_agent_mtls: boolean(
    true,
    'Speak HTTPS with mutual authentication to agents. Off: keys and evidence travel in clear.',
  ),
  ...serverTls('generate'),
  client_key: text(
    'default',
    'Private key for connections to agents and webhooks: `default` or a file, relative to `tls_dir`.',
  ),
  client_key_password: secret('Password of `client_key`.'),
  client_cert: text(
    'default',
    'Certificate for connections to agents and webhooks: `default` or a file, relative to `tls_dir`.',
  ),
  trusted_server_ca: list(
    'default',
    'CA certificates that outgoing connections trust: `default` or a list of files, relative to `tls_dir`.',
  ),
  authorization_provider: choice(['simple'], 'simple', 'Who may do what.'),
  database_url: text('sqlite', 'Database: `sqlite`, `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.', {
    secret: true,
  }),
  database_pool_sz_ovfl: poolSize,
  auto_migrate_db: boolean(
    true,
    'Bring the database to the newest schema at start. Off: refuse to start on an older one.',
  ),
  max_workers: integer(
    16,
    0,
    1024,
    'Most threads for answers that take long to judge; 0 for no limit. Never more than processors, less one, but one.',
  ),
  exponential_backoff: boolean(true, 'Wait `retry_interval` to the power of the attempt before a retry.'),
  retry_interval: decimal(2, 0, 3600, 'Seconds before a retry (the base, with `exponential_backoff`).'),
  max_retries: integer(5, 0, 1000, 'Retries before an agent counts as not reachable.'),
  quote_interval: decimal(
    2,
    0,
    30 * DAY_S,
    'Seconds between two attestations of an agent; 0 means as often as it can be done. Where it is not set, `mode = push` has 60.',
  ),
  max_upload_size: integer(104_857_600, 1024, 2 ** 31, 'Largest request body in bytes.'),
  request_timeout: decimal(60, 0.1, 3600, 'Seconds that one request to an agent or a webhook may take.'),
  measured_boot_policy_name: text('accept-all', 'Measured-boot policy for reference states that name none.'),
  measured_boot_imports: list(
    '[]',
    'Files with measured-boot policies: JavaScript or TypeScript modules that export `policies`, relative to the work directory.',
  ),
  measured_boot_timeout: decimal(
    10,
    0.1,
    3600,
    'Seconds that a measured-boot policy may take for one boot; one that takes longer has refused it.',
  ),
  measured_boot_evaluate: choice(
    ['once', 'always'],
    'once',
    'Judge a boot once, or at every attestation. A new boot is always judged.',
  ),
  severity_labels: severityLabels,
  severity_policy: severityPolicy,
  ignore_tomtou_errors: boolean(
    false,
    'True makes IMA violations (ToMToU, open writers) failures, False accepts them: the existing services behave so, against the name.',
  ),
  tomtou: choice(
    ['default', 'accept', 'fail'],
    'default',
    'What an IMA violation (ToMToU, open writers) is; `default`: as `ignore_tomtou_errors` says.',
  ),
  ima_extend_mode: choice(
    ['bank', 'padded_sha1'],
    'bank',
    'How kernels of agents whose enrolment does not say extend PCR 10: `bank`, with the hash of the bank; `padded_sha1`, with SHA-1 and zeros behind it, as before Linux 5.8.',
  ),
  durable_attestation_import: text('', 'Python module of a durable attestation backend; must be empty here.'),
  persistent_store_url: text('', 'Durable attestation: where records go.', { secret: true }),
  transparency_log_url: text('', 'Durable attestation: transparency log.'),
  time_stamp_authority_url: text('', 'Durable attestation: time stamp authority.'),
  time_stamp_authority_certs_path: text('', 'Durable attestation: certificates of the time stamp authority.'),
  persistent_store_format: text('json', 'Durable attestation: format of a record.'),
  persistent_store_encoding: text('', 'Durable attestation: encoding of a record.'),
  transparency_log_sign_algo: text('sha256', 'Durable attestation: hash of signatures.'),
  signed_attributes: text('', 'Durable attestation: what is signed.'),
  require_allow_list_signatures: boolean(
    false,
    'Accept only runtime policies with a valid signature; those that are stored already, too, when they are used.',
  ),
  runtime_policy_signature_keys: list(
    '[]',
    'Files with the EC public keys or certificates that signed runtime policies must be signed by. Empty: by any key that comes with the policy.',
  ),
  secret_keys: list(
    'default',
    'Files, each with 32 bytes in base64, that secrets (halves of payload keys, revocation keys of agents, the verifier’s own signing keys) are encrypted with, relative to the work directory. The first one encrypts, all decrypt: put a new one in front to rotate. `default` is `secret.key`, made when missing.',
  ),
  mode: choice(
    ['pull', 'push'],
    'pull',
    'Who starts an attestation of agents that are enrolled here: the verifier (`pull`) or the agent (`push`).',
  ),
  challenge_lifetime: integer(1800, 1, DAY_S, 'Push: seconds that a challenge is good for.'),
  verification_timeout: integer(
    0,
    0,
    DAY_S,
    'Push: seconds within which evidence is to be judged, or it has not passed; 0 means no limit.',
  ),
  session_create_rate_limit_per_ip: integer(
    50,
    1,
    1_000_000,
    'Push: sessions that one address may open in a window, and answers that it may give, each.',
  ),
  session_create_rate_limit_window_ip: integer(60, 1, DAY_S, 'Push: seconds of that window.'),
  session_create_rate_limit_per_agent: integer(
    15,
    1,
    1_000_000,
    'Push: wrong proofs for one agent that one address may send in a window.',
  ),
  session_create_rate_limit_window_agent: integer(60, 1, DAY_S, 'Push: seconds of that window.'),
  session_lifetime: integer(180, 1, DAY_S, 'Push: seconds that a session token is good for.'),
  nonce_lifetime: integer(60, 1, DAY_S, 'Push: seconds that the challenge of a new session is good for.'),
  extend_token_on_attestation: boolean(true, 'Push: an attestation that passes extends the session token.'),
  auto_recover_attestation_failures: boolean(
    false,
    'Push: an attestation that passes ends a failure; otherwise an operator does, by a reactivation.',
  ),
  shutdown_drain_timeout: decimal(10, 0, 3600, 'Seconds to finish running attestations when the service stops.'),
} as const;

/** `[revocations]` of verifier.conf. */
export const revocationOptions = {
  enabled_revocation_notifications: list("['agent']", 'Channels that revocations are sent on.', [
    'agent',
    'crl',
    'nats',
    'webhook',
    'zeromq',
  ]),
  signing_key_lifetime: integer(
    365,
    0,
    36_500,
    'Days after which the next key signs notifications about agents that were enrolled without a key; 0 for never.',
  ),
  zmq_ip: text('127.0.0.1', 'Address that the ZeroMQ publisher listens on.'),
  zmq_port: port(8992, 'Port of the ZeroMQ publisher.'),
  webhook_url: text('', 'URL that revocations are posted to; its scheme is honoured.', { secret: true }),
  nats_url: list(
    '[]',
    'NATS servers of one cluster: `nats://HOST:PORT`, or `tls://HOST:PORT` with the client certificate.',
  ),
  nats_subject: text('keylime.revocations', 'Notifications go to this subject, `.` and their type.'),
  nats_stream: text('keylime_revocations', 'JetStream stream that keeps them, made if there is none of this name.'),
  nats_credentials: text(
    '',
    'File with NATS credentials: `.creds`, or the seed of a user NKey, relative to the work directory; empty for none.',
  ),
  nats_user: text('', 'User that NATS knows the verifier by, with `nats_password`.'),
  nats_password: secret('Password of `nats_user`; not for servers that are reached in the clear.'),
  nats_token: secret('Token that NATS lets the verifier in with; not for servers that are reached in the clear.'),
  revoke_certificates: choice(
    ['auto', 'off'],
    'auto',
    'Put the payload certificate of a machine that fails on the CRL, where the CA of `crl_dir` is the verifier’s to use. The channel `crl` does so in any case, and tries until it is done.',
  ),
  crl_dir: text(
    'ca',
    'Folder of the CA whose certificates machines have in their payloads, relative to the work directory; `ca.conf` has its password.',
  ),
} as const;
