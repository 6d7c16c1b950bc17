import { readFile } from 'node:fs/promises';
import type { Server as HttpsServer } from 'node:https';
import { buildHttpServer } from '@keylime/service/http-server';
import type { Log } from '@keylime/service/log';
import { changeServerTls, type ServerTls } from '@keylime/service/tls';
import type { FastifyInstance } from 'fastify';
import { AgentError } from './agent-error.ts';
import { type AgentServices, agentRoutes } from './routes.ts';

/** Largest body of a request (spec 01 section 8). */
const BODY_LIMIT_BYTES = 2 * 1024 * 1024;

/** A quote takes a slow TPM some seconds; a peer that takes no bytes for longer is gone. */
const TIMEOUTS = { headersMs: 10_000, requestMs: 30_000, keepAliveMs: 75_000, idleMs: 60_000, closeMs: 2_000 };

/**
 * The agent's server. With `tls` a client certificate is required in the handshake and must chain to a CA of
 * `clientCaPems` [MUST]; whoever has one may ask for everything. Without `tls` it is plain HTTP.
 */
export function buildAgentServer(services: AgentServices, tls: ServerTls | undefined): FastifyInstance {
  const app = buildHttpServer({
    log: services.log,
    tls: tls && { ...tls, requireClientCertificate: true },
    bodyLimitBytes: BODY_LIMIT_BYTES,
    authorization: 'none',
    timeouts: TIMEOUTS,
  });
  agentRoutes(app, services);
  return app;
}

/** Shows another certificate from the next connection on. */
export const changeCertificate = (app: FastifyInstance, tls: ServerTls): void =>
  changeServerTls(app.server as unknown as HttpsServer, { ...tls, requireClientCertificate: true });

/**
 * PEM texts of the CAs whose client certificates are accepted. Files that cannot be read are reported and left out.
 * @throws AgentError `client_ca_unusable` if none is left: nobody could connect.
 */
export async function readClientCas(paths: readonly string[], log: Log): Promise<readonly string[]> {
  const pems: string[] = [];
  for (const path of paths) {
    try {
      const pem = await readFile(path, 'utf8');
      if (pem.includes('-----BEGIN CERTIFICATE-----')) pems.push(pem);
      else log.warn('There is no PEM certificate in a file of trusted_client_ca', { path });
    } catch (cause) {
      log.warn('A file of trusted_client_ca cannot be read', { path, reason: cause });
    }
  }
  if (pems.length > 0) return pems;
  throw new AgentError(
    'client_ca_unusable',
    `No CA certificate of trusted_client_ca can be used (${paths.join(', ')}), so nobody could connect. Copy the verifier's cacert.crt there, or set trusted_client_ca to its path.`,
  );
}
