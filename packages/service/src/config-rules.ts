import { DatabaseError } from './database-error.ts';
import { parseDatabaseUrl } from './database-url.ts';
import type { agentOptions } from './options/agent.ts';
import type { registrarOptions } from './options/registrar.ts';
import type { tenantOptions } from './options/tenant.ts';
import type { revocationOptions, verifierOptions } from './options/verifier.ts';
import type { Settings } from './options.ts';

/** What no single value is to blame for. `option` is where to look first. */
export type Problems = readonly { readonly section: string; readonly option?: string; readonly text: string }[];

type Tls = {
  readonly tls_dir: string;
  readonly trusted_client_ca?: readonly string[];
  readonly trusted_server_ca?: readonly string[];
};

const CERTIFICATE_FILES = {
  verifier: ['server_key', 'server_cert', 'trusted_client_ca', 'client_key', 'client_cert', 'trusted_server_ca'],
  registrar: ['server_key', 'server_cert', 'trusted_client_ca'],
} as const;

/** Durable attestation would be silently left out: refused instead. */
export function verifierProblems(
  verifier: Settings<typeof verifierOptions>,
  revocations: Settings<typeof revocationOptions>,
): Problems {
  const problems = [
    ...tlsProblems('verifier', verifier),
    ...generateProblems('verifier', verifier),
    ...durableAttestationProblems('verifier', verifier.durable_attestation_import),
    ...databaseProblems('verifier', verifier.database_url),
  ];
  const url = revocations.webhook_url;
  if (url !== '' && !(URL.canParse(url) && /^https?:/i.test(url))) {
    problems.push({
      section: 'revocations',
      option: 'webhook_url',
      text: 'webhook_url is not a URL like https://host/path',
    });
  }
  if (revocations.nats_url.length === 0 && revocations.enabled_revocation_notifications.includes('nats')) {
    problems.push({
      section: 'revocations',
      option: 'enabled_revocation_notifications',
      text: 'enabled_revocation_notifications has nats, but nats_url is empty: nobody would be told',
    });
  }
  problems.push(
    ...natsProblems('revocations', 'nats_', {
      url: revocations.nats_url,
      credentials: revocations.nats_credentials,
      user: revocations.nats_user,
      password: revocations.nats_password,
      token: revocations.nats_token,
    }),
  );
  if (url === '' && revocations.enabled_revocation_notifications.includes('webhook')) {
    problems.push({
      section: 'revocations',
      option: 'enabled_revocation_notifications',
      text: 'enabled_revocation_notifications has webhook, but webhook_url is empty: nobody would be told',
    });
  }
  return problems;
}

export const registrarProblems = (registrar: Settings<typeof registrarOptions>): Problems => [
  ...tlsProblems('registrar', registrar),
  ...generateProblems('registrar', registrar),
  ...durableAttestationProblems('registrar', registrar.durable_attestation_import),
  ...databaseProblems('registrar', registrar.database_url),
];

export function tenantProblems(tenant: Settings<typeof tenantOptions>): Problems {
  if (tenant.tls_dir !== 'generate') return tlsProblems('tenant', tenant);
  const text =
    'tls_dir = generate is for the services: the tenant needs default or the folder of existing certificates';
  return [...tlsProblems('tenant', tenant), { section: 'tenant', option: 'tls_dir', text }];
}

/** Without mutual TLS anybody can bring a payload; it is not run unless the operator says so twice. */
export function agentProblems(agent: Settings<typeof agentOptions>): Problems {
  const problems: { section: string; option: string; text: string }[] =
    agent.mode === 'push' ? pushProblems(agent) : [];
  const isServing = agent.mode === 'pull' || agent.push_listen;
  if (isServing && !agent.enable_agent_mtls && agent.payload_script !== '' && !agent.enable_insecure_payload) {
    problems.push({
      section: 'agent',
      option: 'enable_agent_mtls',
      text: "with 'enable_agent_mtls' off, 'payload_script' must be empty, or 'enable_insecure_payload' has to be set to 'True'",
    });
  }
  for (const option of ['revocation_notification_ip', 'revocation_actions_dir'] as const) {
    if (!agent.enable_revocation_notifications || agent[option] !== '') continue;
    problems.push({ section: 'agent', option, text: `'enable_revocation_notifications' needs ${option}` });
  }
  problems.push(
    ...natsProblems('agent', 'revocation_nats_', {
      url: agent.revocation_nats_url,
      credentials: agent.revocation_nats_credentials ?? '',
      user: agent.revocation_nats_user,
      password: agent.revocation_nats_password,
      token: agent.revocation_nats_token,
    }),
  );
  if ((agent.revocation_nats_client_cert === undefined) !== (agent.revocation_nats_client_key === undefined)) {
    problems.push({
      section: 'agent',
      option: 'revocation_nats_client_cert',
      text: 'revocation_nats_client_cert and revocation_nats_client_key go together',
    });
  }
  return problems;
}

/** Whoever reads the token of a session can attest in the agent's place until it expires. */
function pushProblems(agent: Settings<typeof agentOptions>) {
  const problems: { section: string; option: string; text: string }[] = [];
  const url = URL.parse(agent.verifier_url);
  const isBare = url && ['', '/'].includes(url.pathname) && url.search === '' && url.hash === '' && url.username === '';
  if (!isBare || url.protocol !== 'https:') {
    const text = 'with mode = push, verifier_url must be https://HOST:PORT and nothing more';
    problems.push({ section: 'agent', option: 'verifier_url', text });
  }
  if (agent.tls_accept_invalid_certs) {
    const text =
      'tls_accept_invalid_certs would send evidence and tokens to anybody and is not supported: name the CA of the verifier in verifier_tls_ca_cert';
    problems.push({ section: 'agent', option: 'tls_accept_invalid_certs', text });
  }
  return problems;
}

type Nats = {
  readonly url: readonly string[];
  readonly credentials: string;
  readonly user: string;
  readonly password: string;
  readonly token: string;
};

/** `prefix` is what the names of the options begin with. What is secret itself must not travel in the clear. */
function natsProblems(section: string, prefix: string, { url, credentials, user, password, token }: Nats) {
  const problems = url
    .filter((server) => !/^(nats|tls):\/\/[^\s@]+$/.test(server) || !URL.canParse(server))
    .map((server) => ({
      section,
      option: `${prefix}url`,
      text: `${prefix}url: ${withoutPassword(server)} is no nats:// or tls:// URL without a password`,
    }));
  const problem = (option: string, text: string) => problems.push({ section, option: `${prefix}${option}`, text });
  const ways = { credentials, user, token };
  const used = Object.entries(ways).flatMap(([name, value]) => (value === '' ? [] : [`${prefix}${name}`]));
  if (used.length > 1) problem('credentials', `only one of ${used.join(', ')} can be used`);
  if ((user === '') !== (password === '')) problem('user', `${prefix}user and ${prefix}password go together`);
  const clear = url.find((server) => server.startsWith('nats:') && !isLoopback(server));
  if (clear !== undefined && (password !== '' || token !== '')) {
    problem('url', `${clear} would get a password or token in the clear: use tls://, or ${prefix}credentials`);
  }
  return problems;
}

const isLoopback = (server: string): boolean =>
  /^(localhost|127(\.\d+){3}|\[::1\])$/.test(URL.parse(server)?.hostname ?? '');

const withoutPassword = (url: string) => url.replace(/\/\/.*@/, '//***@');

function tlsProblems(section: string, settings: Tls) {
  const problems: { section: string; option: string; text: string }[] = [];
  if (settings.tls_dir === '') problems.push({ section, option: 'tls_dir', text: 'tls_dir must not be empty' });
  for (const option of ['trusted_client_ca', 'trusted_server_ca'] as const) {
    const trusted = settings[option];
    if (trusted === undefined) continue;
    const all = `${option} = all would trust anybody and is not supported: name the CA certificates, or use default`;
    if (trusted.includes('all')) problems.push({ section, option, text: all });
    if (trusted.length === 0)
      problems.push({ section, option, text: `${option} must not be empty: nobody would be trusted` });
  }
  return problems;
}

function generateProblems(
  section: keyof typeof CERTIFICATE_FILES,
  settings: Tls & { readonly [option: string]: unknown },
) {
  if (settings.tls_dir !== 'generate') return [];
  const odd = CERTIFICATE_FILES[section].filter((option) => String(settings[option]) !== 'default');
  const list = odd.map((option) => `'${option}'`).join(', ');
  const text = `To use tls_dir=generate, the following options must be set to 'default': [${list}]`;
  return odd.length === 0 ? [] : [{ section, option: odd[0] ?? 'tls_dir', text }];
}

function durableAttestationProblems(section: string, module: string) {
  const text = 'durable_attestation_import is not supported here: nothing would be recorded; leave it empty';
  return module === '' ? [] : [{ section, option: 'durable_attestation_import', text }];
}

function databaseProblems(section: string, url: string) {
  try {
    parseDatabaseUrl(url, '/', section);
    return [];
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    return [{ section, option: 'database_url', text: error.message }];
  }
}
