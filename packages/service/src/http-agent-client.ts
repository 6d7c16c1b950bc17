import { X509Certificate } from 'node:crypto';
import { connect as connectPlain, type Socket } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Client as UndiciClient } from 'undici';
import type { ClientCertificate, HttpClient } from './http-client.ts';
import { asHttpClientError, HttpClientError } from './http-client-error.ts';
import { authority } from './http-endpoint.ts';
import {
  type ExchangeLimits,
  exchange,
  type HttpAnswer,
  type HttpRequest,
  WITHOUT_OWN_TIMEOUTS,
} from './http-exchange.ts';
import { connectPinned, type PinnedSession } from './pinned-connection.ts';
import { Client } from './undici.ts';

export type AgentClientsOptions = ExchangeLimits & {
  /** Shown to agents that speak TLS. */
  readonly clientCertificate?: ClientCertificate | undefined;
  readonly connectTimeoutMs: number;
  /** How long an unused connection is kept; 0 closes it after each request. */
  readonly keepAliveMs: number;
  /**
   * Connections that are kept at most, about 70 KiB each. One beyond the limit is closed after its request: agents are
   * asked in turn, so giving up the one that was not used for longest would give up the one that is needed next.
   */
  readonly maxIdleConnections: number;
};

export type AgentEndpoint = {
  /** Address or host name, IPv6 with or without brackets. */
  readonly host: string;
  readonly port: number;
  /**
   * PEM of the certificate that the agent registered. `undefined` speaks plain HTTP (`enable_agent_mtls = false`): what is
   * sent then can be read and changed on the way.
   */
  readonly pinnedCertificatePem: string | undefined;
};

export type AgentClients = {
  /** A client of one agent; costs no connection until it asks. Throws `HttpClientError` `invalid_endpoint`. */
  readonly open: (endpoint: AgentEndpoint) => HttpClient;
  /** Connections that are open now, used or not. */
  readonly connectionCount: () => number;
  /** Shows another certificate in new connections, without resuming sessions that began with the old one. */
  readonly changeCertificate: (identity: ClientCertificate) => void;
  readonly close: () => Promise<void>;
};

/** What one client needs of its family. */
type Family = {
  readonly options: AgentClientsOptions;
  context: SecureContext;
  readonly connections: Set<Connection>;
  /** Those of them that nobody uses at the moment: only they count against the limit. */
  readonly idle: Set<Connection>;
  closed: boolean;
};

type Connection = { readonly client: UndiciClient; busy: number; used: boolean; failed: boolean };

/**
 * Clients of many agents with one client certificate: pinned TLS (`connectPinned`), kept-alive connections up to a limit,
 * no redirects. Use one family for a whole process: it shares the TLS context and the limit.
 */
export function openAgentClients(options: AgentClientsOptions): AgentClients {
  const family: Family = {
    options,
    context: contextOf(options.clientCertificate),
    connections: new Set(),
    idle: new Set(),
    closed: false,
  };
  return {
    open: (endpoint) => openClient(family, endpoint),
    connectionCount: () => family.connections.size,
    changeCertificate: (identity) => {
      family.context = contextOf(identity);
    },
    close: async () => {
      family.closed = true;
      const open = [...family.connections];
      family.connections.clear();
      family.idle.clear();
      await Promise.all(open.map(({ client }) => client.destroy()));
    },
  };
}

const contextOf = (identity: ClientCertificate | undefined): SecureContext =>
  createSecureContext({
    minVersion: 'TLSv1.2',
    ...(identity ? { cert: identity.certPem, key: identity.keyPem } : {}),
    ...(identity?.passphrase ? { passphrase: identity.passphrase } : {}),
  });

function openClient(family: Family, { host, port, pinnedCertificatePem }: AgentEndpoint): HttpClient {
  const certificate = pinnedCertificatePem === undefined ? undefined : parsePin(pinnedCertificatePem, host, port);
  const endpoint = `${certificate ? 'https' : 'http'}://${authority(host, port)}`;
  const bareHost = host.replace(/^\[(.*)\]$/, '$1');
  const pin = certificate?.raw;
  const validFrom = certificate?.validFromDate.getTime() ?? Number.NEGATIVE_INFINITY;
  const validTo = certificate?.validToDate.getTime() ?? Number.POSITIVE_INFINITY;
  let session: PinnedSession = {};
  let sessionContext = family.context;
  let current: Connection | undefined;

  const drop = (connection: Connection): void => {
    if (connection === current) current = undefined;
    family.connections.delete(connection);
    family.idle.delete(connection);
    void connection.client.destroy();
  };
  const connection = (): Connection => {
    if (current) return current;
    const client = new Client(endpoint, {
      ...WITHOUT_OWN_TIMEOUTS,
      pipelining: 1,
      keepAliveTimeout: Math.max(1, family.options.keepAliveMs),
      keepAliveMaxTimeout: Math.max(1, family.options.keepAliveMs),
      connect: (_, done) => {
        const target = { host: bareHost, port, endpoint };
        const { connectTimeoutMs } = family.options;
        const callback = done as (error: Error | null, socket: Socket | null) => void;
        if (sessionContext !== family.context) {
          session = {};
          sessionContext = family.context;
        }
        if (pin) connectPinned({ ...target, pin }, family.context, session, connectTimeoutMs, callback);
        else connectUnprotected(target, connectTimeoutMs, callback);
      },
    });
    const made: Connection = { client, busy: 0, used: false, failed: false };
    client.on('disconnect', () => {
      made.used = false;
      family.connections.delete(made);
      family.idle.delete(made);
    });
    current = made;
    return made;
  };
  const send = async (request: HttpRequest): Promise<HttpAnswer> => {
    const made = connection();
    made.busy += 1;
    family.idle.delete(made);
    family.connections.add(made);
    const wasUsed = made.used;
    made.used = true;
    try {
      return await exchange(made.client, endpoint, request, family.options);
    } catch (error) {
      // Another request that waits for this connection may still finish; the next one gets a new connection.
      made.failed = true;
      if (made === current) current = undefined;
      // A peer may close an unused connection just when the next request is under way.
      const mayRepeat = wasUsed && request.method === 'GET' && !request.signal?.aborted && !family.closed;
      if (mayRepeat && error instanceof HttpClientError && error.code === 'connection_closed') return send(request);
      throw error;
    } finally {
      made.busy -= 1;
      if (made.busy === 0) {
        const surplus = family.options.keepAliveMs === 0 || family.idle.size >= family.options.maxIdleConnections;
        if (surplus || made.failed) drop(made);
        else family.idle.add(made);
      }
    }
  };
  return {
    request: async (request) => {
      if (family.closed) throw new HttpClientError('client_closed', endpoint, 'this program is closing.');
      const now = Date.now();
      if (now < validFrom || now > validTo) throw pinOutOfDate(endpoint, validFrom, validTo);
      return send(request);
    },
    close: async () => {
      if (current) drop(current);
    },
  };
}

function connectUnprotected(
  target: { readonly host: string; readonly port: number; readonly endpoint: string },
  timeoutMs: number,
  done: (error: Error | null, socket: Socket | null) => void,
): void {
  const socket = connectPlain({ host: target.host, port: target.port, noDelay: true });
  const timer = setTimeout(() => {
    socket.off('error', onError).on('error', () => {});
    socket.destroy();
    done(new HttpClientError('connect_timeout', target.endpoint, `no connection within ${timeoutMs} ms.`), null);
  }, timeoutMs);
  const onError = (error: Error): void => {
    clearTimeout(timer);
    done(asHttpClientError(error, target.endpoint), null);
  };
  socket.once('error', onError).once('connect', () => {
    clearTimeout(timer);
    socket.off('error', onError);
    done(null, socket);
  });
}

function parsePin(pem: string, host: string, port: number): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new HttpClientError('invalid_endpoint', `${host}:${port}`, 'the registered certificate is not one in PEM.', {
      cause,
    });
  }
}

const pinOutOfDate = (endpoint: string, validFrom: number, validTo: number): HttpClientError =>
  new HttpClientError(
    'certificate_expired',
    endpoint,
    `the registered certificate is valid from ${new Date(validFrom).toISOString()} to ${new Date(validTo).toISOString()}. ` +
      'Delete it on the agent, so that the agent makes a new one, then register and enrol the agent again.',
  );
