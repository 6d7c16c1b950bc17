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
  const problem = (option: keyof typeof verifierOptions, text: string) =>
    problems.push({ section: 'verifier', option, text });
  if (verifier.mode === 'push') {
    problem(
      'mode',
      'mode = push is not served yet: push attestation comes with a later version; this one serves mode = pull',
    );
  }
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
  problems.push(...natsProblems('revocations', 'nats_url', revocations.nats_url));
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
  problems.push(...natsProblems('agent', 'revocation_nats_url', agent.revocation_nats_url));
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

const natsProblems = (section: string, option: string, servers: readonly string[]) =>
  servers
    .filter((server) => !/^(nats|tls):\/\/[^\s@]+$/.test(server) || !URL.canParse(server))
    .map((server) => ({
      section,
      option,
      text: `${option}: ${withoutPassword(server)} is no nats:// or tls:// URL without a password`,
    }));

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
