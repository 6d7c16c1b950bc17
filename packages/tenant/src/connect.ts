import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { type AgentOptions, Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import type { CertificatePaths } from '@keylime/service/certificate-paths';
import { authority, type Connection, type HttpAnswer, type Method } from './connection.ts';
import { excerpt } from './output.ts';
import type { AgentAddress } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/** The tenant's own certificate, and the CAs of verifier and registrar. The system's CAs are never asked. */
export type ClientTls = {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly passphrase: string;
  readonly serverCas: readonly Buffer[];
  /** For messages. */
  readonly certFile: string;
  readonly caFiles: readonly string[];
};

const MAX_ANSWER_BYTES = 100 * 1024 * 1024;

/** Reads certificate, key and CAs. @throws TenantError `client_certificate` naming the file and how to get it */
export function clientIdentityOf(paths: CertificatePaths<'client'>): ClientTls {
  const read = (file: string, what: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? cause.code : cause;
      const advice = `tenant.conf: tls_dir, client_cert, client_key and trusted_server_ca; the verifier makes ${paths.directory} at its first start`;
      throw new TenantError('client_certificate', `Cannot read the ${what} ${file} (${code}). See ${advice}`, {
        cause,
      });
    }
  };
  const tls = {
    cert: read(paths.client.certificate, 'client certificate'),
    key: read(paths.client.key, 'private key of the client certificate'),
    passphrase: paths.client.password,
    serverCas: paths.trustedServerCa.map((file) => read(file, 'CA certificate of verifier and registrar')),
    certFile: paths.client.certificate,
    caFiles: paths.trustedServerCa,
  };
  try {
    createSecureContext({ cert: tls.cert, key: tls.key, passphrase: tls.passphrase });
  } catch (cause) {
    const why = cause instanceof Error ? excerpt(cause.message) : String(cause);
    const files = `${paths.client.certificate} and ${paths.client.key}`;
    throw new TenantError(
      'client_certificate',
      `Client certificate and key cannot be used (${files}): ${why}. See client_key_password in tenant.conf`,
      { cause },
    );
  }
  return tls;
}

/** HTTPS to verifier or registrar: TLS 1.2 or newer, exactly the configured CAs, our client certificate. */
export function openServer(options: {
  readonly kind: 'verifier' | 'registrar';
  readonly host: string;
  readonly port: string;
  readonly client: ClientTls;
  readonly checkHostName: boolean;
  readonly timeoutMs: number;
}): Connection {
  const { kind, host, port, client, checkHostName, timeoutMs } = options;
  const peer: Peer = {
    label: `${kind} ${authority(host, port)}`,
    untrusted: `its certificate was not issued by a CA of trusted_server_ca (${client.caFiles.join(', ')})`,
    clientCertificate: client.certFile,
    hostName:
      `its certificate does not name ${host}: add the name to cert_subject_alternative_names of the ${kind} and make a new ` +
      'certificate, use a name that it has, or switch this check off with --no-hostname-check',
  };
  return connect(host, port, timeoutMs, peer, {
    ...ownCertificate(client),
    ca: [...client.serverCas],
    checkServerIdentity: checkHostName ? checkServerIdentity : () => undefined,
  });
}

/**
 * HTTPS to an agent. [MUST] It must show the very certificate that it registered: another one is refused whoever issued
 * it. Plain HTTP for an agent that registered none.
 */
export function openAgent(
  options: AgentAddress & { readonly client: () => ClientTls; readonly timeoutMs: number },
): Connection {
  const { host, port, certificate, timeoutMs } = options;
  const label = `agent ${authority(host, port)}`;
  if (certificate === undefined) {
    return connect(host, port, timeoutMs, { label, untrusted: '', clientCertificate: '', hostName: '' }, undefined);
  }
  const client = options.client();
  const pinned = pinnedCertificate(certificate, label);
  const untrusted =
    'it did not show the certificate that it registered: another program answers there, or the agent must register again';
  return connect(
    host,
    port,
    timeoutMs,
    { label, untrusted, clientCertificate: client.certFile, hostName: untrusted },
    {
      ...ownCertificate(client),
      ca: [certificate],
      allowPartialTrustChain: true,
      checkServerIdentity: (_, peer) => (peer.raw.equals(pinned) ? undefined : new WrongCertificate()),
    },
  );
}

class WrongCertificate extends Error {
  readonly code = 'ERR_TLS_CERT_ALTNAME_INVALID';
}

function pinnedCertificate(pem: string, label: string): Buffer {
  try {
    return new X509Certificate(pem).raw;
  } catch (cause) {
    throw new TenantError('untrusted_peer', `The certificate that ${label} registered cannot be read`, { cause });
  }
}

const ownCertificate = ({ cert, key, passphrase }: ClientTls): AgentOptions => ({
  cert,
  key,
  ...(passphrase === '' ? {} : { passphrase }),
  minVersion: 'TLSv1.2',
  rejectUnauthorized: true,
  keepAlive: true,
  // A resumed session would skip the check of the certificate.
  maxCachedSessions: 0,
});

/** How to speak of a peer when something is wrong. */
type Peer = {
  readonly label: string;
  readonly untrusted: string;
  readonly clientCertificate: string;
  readonly hostName: string;
};

function connect(host: string, port: string, timeoutMs: number, peer: Peer, tls: AgentOptions | undefined): Connection {
  const agent = tls === undefined ? new HttpAgent({ keepAlive: true }) : new HttpsAgent(tls);
  const send = tls === undefined ? httpRequest : httpsRequest;
  return {
    close: async () => agent.destroy(),
    async request(method: Method, path: string, body?: string): Promise<HttpAnswer> {
      const headers = body ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {};
      try {
        return await new Promise<HttpAnswer>((resolve, reject) => {
          const signal = AbortSignal.timeout(timeoutMs);
          const bare = host.replace(/^\[(.*)\]$/, '$1');
          const sent = send({ host: bare, port, method, path, headers, agent, signal }, (answer) => {
            readAnswer(answer).then(resolve, reject);
          });
          sent.once('error', reject);
          sent.end(body);
        });
      } catch (error) {
        throw explain(error, peer, timeoutMs);
      }
    },
  };
}

async function readAnswer(answer: IncomingMessage): Promise<HttpAnswer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_ANSWER_BYTES) throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  return { status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') };
}

const UNTRUSTED = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
]);

/** One line for what happens when two programs cannot talk: what, where, the likely cause. */
function explain(error: unknown, peer: Peer, timeoutMs: number): TenantError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const name = error instanceof Error ? error.name : '';
  const untrusted = (why: string) =>
    new TenantError('untrusted_peer', `Cannot trust ${peer.label}: ${why}`, { cause: error });
  const unreachable = (why: string) =>
    new TenantError('unreachable', `Cannot connect to ${peer.label}: ${why}`, { cause: error });
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return untrusted(peer.hostName);
  if (UNTRUSTED.has(code)) return untrusted(peer.untrusted);
  if (code === 'CERT_HAS_EXPIRED') return untrusted('its certificate has expired');
  if (code === 'CERT_NOT_YET_VALID') return untrusted('its certificate is not valid yet: look at the clocks');
  if (/ALERT|CERTIFICATE_REQUIRED/.test(code)) {
    return untrusted(
      `it refuses our client certificate ${peer.clientCertificate} (${code}): look at its trusted_client_ca`,
    );
  }
  if (/^ERR_SSL|^EPROTO/.test(code))
    return unreachable(`it does not speak TLS as expected (${code}): is this the right port?`);
  if (name === 'AbortError' || name === 'TimeoutError' || code === 'ETIMEDOUT') {
    return unreachable(`no answer within ${timeoutMs / 1000} s (request_timeout in tenant.conf)`);
  }
  if (code === 'ECONNREFUSED')
    return unreachable('connection refused: is it running, and listening on this address and port?');
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return unreachable('there is no such host name');
  if (code === 'EHOSTUNREACH' || code === 'ENETUNREACH') return unreachable('there is no route to this address');
  if (code === 'ECONNRESET') {
    return unreachable(
      'it closed the connection: it may not accept our client certificate (its trusted_client_ca), or this is the wrong port',
    );
  }
  return unreachable(excerpt(error instanceof Error ? error.message : String(error)));
}
