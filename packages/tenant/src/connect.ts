import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { codeOf } from '@keylime/core/coded-error';
import type { Json } from '@keylime/core/json';
import type { CertificatePaths } from '@keylime/service/certificate-paths';
import { openAgentClients } from '@keylime/service/http-agent-client';
import { type ClientCertificate, type HttpClient, openServerClient } from '@keylime/service/http-client';
import { HttpClientError, type HttpClientErrorCode } from '@keylime/service/http-client-error';
import { authority } from '@keylime/service/http-endpoint';
import type { Connection } from './connection.ts';
import { excerpt } from './output.ts';
import type { AgentAddress } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/** The tenant's own certificate, and the CAs of verifier and registrar. The system's CAs are never asked. */
export type ClientTls = {
  readonly certificate: ClientCertificate;
  readonly serverCas: readonly string[];
  /** For messages. */
  readonly certificateFile: string;
  readonly caFiles: readonly string[];
};

const MAX_AGENT_ANSWER_BYTES = 1024 * 1024;

/** Reads certificate, key and CAs. @throws TenantError `client_certificate` naming the file and where to look */
export function readClientTls(paths: CertificatePaths<'client'>): ClientTls {
  const read = (file: string, what: string): string => {
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      const code = codeOf(cause) ?? cause;
      throw new TenantError(
        'client_certificate',
        `Cannot read the ${what} ${file} (${code}). See tls_dir, client_cert, client_key and trusted_server_ca in ` +
          `tenant.conf; a verifier with tls_dir = generate makes its folder cv_ca at the first start`,
        { cause },
      );
    }
  };
  const certPem = read(paths.client.certificate, 'client certificate');
  const keyPem = read(paths.client.key, 'private key of the client certificate');
  const passphrase = paths.client.password === '' ? undefined : paths.client.password;
  try {
    createSecureContext({ cert: certPem, key: keyPem, passphrase });
  } catch (cause) {
    const why = cause instanceof Error ? excerpt(cause.message) : String(cause);
    throw new TenantError(
      'client_certificate',
      `Client certificate ${paths.client.certificate} and key ${paths.client.key} cannot be used: ${why}. ` +
        'They must belong together; client_key_password in tenant.conf opens an encrypted key',
      { cause },
    );
  }
  return {
    certificate: { certPem, keyPem, passphrase },
    serverCas: paths.trustedServerCa.map((file) => read(file, 'CA certificate of verifier and registrar')),
    certificateFile: paths.client.certificate,
    caFiles: paths.trustedServerCa,
  };
}

/** HTTPS to verifier or registrar: exactly the configured CAs, our client certificate. */
export function openServer(options: {
  readonly kind: 'verifier' | 'registrar';
  readonly host: string;
  readonly port: string;
  readonly client: ClientTls;
  readonly checkHostName: boolean;
  readonly timeoutMs: number;
}): Connection {
  const { kind, host, port, client, checkHostName, timeoutMs } = options;
  return connectionOf(
    kind,
    client,
    () =>
      openServerClient({
        baseUrl: `https://${authority(host, Number(port))}`,
        caPems: client.serverCas,
        clientCertificate: client.certificate,
        checkHostName,
        timeoutMs,
      }),
    {
      host_name_mismatch:
        `add ${host} to cert_subject_alternative_names of the ${kind} and let it make a new certificate, use a name that ` +
        'the certificate has, or switch this check off with --no-hostname-check',
      untrusted_certificate: `trusted_server_ca is ${client.caFiles.join(', ')}`,
    },
  );
}

/**
 * HTTPS to an agent. [MUST] It must show the very certificate that it registered: another one is refused whoever issued
 * it. Plain HTTP for an agent that registered none.
 */
export function openAgent(
  options: AgentAddress & { readonly client: ClientTls; readonly timeoutMs: number },
): Connection {
  const { host, port, certificate, client, timeoutMs } = options;
  const clients = openAgentClients({
    clientCertificate: client.certificate,
    connectTimeoutMs: timeoutMs,
    headersTimeoutMs: timeoutMs,
    bodyTimeoutMs: timeoutMs,
    maxResponseBytes: MAX_AGENT_ANSWER_BYTES,
    keepAliveMs: timeoutMs,
    maxIdleConnections: 1,
  });
  return connectionOf(
    'agent',
    client,
    () => clients.open({ host, port: Number(port), pinnedCertificatePem: certificate }),
    {
      pinned_certificate_mismatch:
        'another program answers there, or the agent must register again with its new certificate',
    },
  );
}

type Advice = Partial<Record<HttpClientErrorCode, string>>;

/** A peer that answers but is not who it should be: asking again does not help. */
const UNTRUSTED: readonly HttpClientErrorCode[] = [
  'untrusted_certificate',
  'certificate_expired',
  'host_name_mismatch',
  'client_certificate_refused',
  'pinned_certificate_mismatch',
];

/** Bodies that may be more than a server takes; it then closes the connection before all is sent. */
const LARGE_BODY_BYTES = 10 << 20;

const ADDRESS_OPTIONS = { verifier: '-v and -vp', registrar: '-r and -rp', agent: '-t and -tp' };

function connectionOf(
  kind: keyof typeof ADDRESS_OPTIONS,
  client: ClientTls,
  open: () => HttpClient,
  special: Advice,
): Connection {
  const advice: Advice = {
    connection_refused: `${ADDRESS_OPTIONS[kind]} name another one`,
    connect_timeout: 'request_timeout in tenant.conf says how long to wait',
    client_certificate_refused: `ours is ${client.certificateFile}, see trusted_client_ca of the ${kind}`,
    connection_closed: `ours is ${client.certificateFile}, see trusted_client_ca of the ${kind}`,
    headers_timeout: 'request_timeout in tenant.conf says how long to wait',
    ...special,
  };
  const explained = <T>(error: T, sent?: Json): T | TenantError => {
    if (!(error instanceof HttpClientError)) return error;
    const sentBytes = error.code === 'connection_closed' && sent !== undefined ? JSON.stringify(sent).length : 0;
    const hint =
      sentBytes > LARGE_BODY_BYTES
        ? `or what was sent, ${sentBytes} bytes, is more than it takes: see max_upload_size of the ${kind}`
        : advice[error.code];
    const text = `${error.message.replace(/\.?$/, '')}${hint ? `; ${hint}` : ''}`;
    return UNTRUSTED.includes(error.code)
      ? new TenantError('untrusted_peer', `Cannot trust ${kind} ${text}`, { cause: error })
      : new TenantError('unreachable', `No answer from ${kind} ${text}`, { cause: error });
  };
  let http: HttpClient;
  try {
    http = open();
  } catch (error) {
    const known = explained(error);
    throw error instanceof RangeError ? new TenantError('client_certificate', error.message, { cause: error }) : known;
  }
  return {
    close: () => http.close(),
    async request(method, path, json) {
      try {
        const { code, body } = await http.request({ method, path, ...(json === undefined ? {} : { json }) });
        return { status: code, text: body.toString('utf8') };
      } catch (error) {
        throw explained(error, json);
      }
    },
  };
}
