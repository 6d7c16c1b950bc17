import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { connect, credsAuthenticator, type NatsConnection } from '@nats-io/transport-node';
import type { ClientCertificate } from './http-client.ts';

export type NatsSettings = {
  /** `nats://HOST:PORT` or `tls://HOST:PORT`, of one cluster; they are tried in this order. */
  readonly servers: readonly string[];
  /** Who connects, as the server's monitoring shows it. */
  readonly name: string;
  /** `.creds` text with JWT and NKey seed; undefined for servers that let everybody in. */
  readonly credentials: string | undefined;
  /** For `tls://` servers. */
  readonly tls: NatsTls;
};

/** The PEM of the CAs that are believed, and the certificate that is shown. */
export type NatsTls = {
  readonly trustedCas: readonly string[];
  readonly certificate?: ClientCertificate;
};

const CONNECT_MS = 5_000;
/** Two questions in a row without an answer end the connection. */
const PING_MS = 20_000;

/**
 * Connects to the first server that can be reached; the connection is not repaired when it ends. [MUST] A `tls://` server
 * that speaks no TLS, has a certificate of another CA or for another name is refused before anything is said.
 * @throws what the last server answered
 */
export async function connectNats(settings: NatsSettings): Promise<NatsConnection> {
  let problem: unknown;
  for (const server of settings.servers) {
    try {
      return await connect(connectionOptions(server, settings));
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}

function connectionOptions(server: string, { name, credentials, tls }: NatsSettings) {
  const authenticator = credentials === undefined ? undefined : credsAuthenticator(Buffer.from(credentials));
  const common = {
    servers: server,
    name,
    timeout: CONNECT_MS,
    reconnect: false,
    pingInterval: PING_MS,
    maxPingOut: 2,
    ...(authenticator && { authenticator }),
  };
  if (!server.startsWith('tls:')) return common;
  const host = new URL(server).hostname.replace(/^\[(.*)\]$/, '$1');
  return {
    ...common,
    tls: {
      ca: tls.trustedCas.join('\n'),
      ...(tls.certificate && {
        cert: tls.certificate.certPem,
        key: tls.certificate.keyPem,
        passphrase: tls.certificate.passphrase,
      }),
      // The library would compare the certificate with `localhost` where the server is named by its address.
      checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
    },
  };
}
