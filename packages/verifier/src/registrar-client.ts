import type { VerifierConfig } from '@keylime/service/config';
import { openServerClient } from '@keylime/service/http-client';
import { authority } from '@keylime/service/http-endpoint';
import type { Log } from '@keylime/service/log';
import { replaceableClient } from '@keylime/service/replaceable-client';
import { askRegistrar, type FindRenewed } from './renewed-certificate.ts';
import type { TlsMaterial } from './tls-material.ts';

/** A round waits for the registrar's answer. */
const LONGEST_ANSWER_MS = 10_000;
/** A record is a few KB. */
const MAX_ANSWER_BYTES = 1024 * 1024;

/**
 * The registrar of `registrar_ip`, asked with the verifier's client certificate and trusted by `trusted_server_ca`; nobody
 * is asked without an address, or where `agent_certificate_renewal` is `off`.
 */
export function openRegistrar(
  { registrar_ip: host, registrar_port: port, agent_certificate_renewal: keyRule, request_timeout }: VerifierConfig,
  material: TlsMaterial,
  usesOfTls: ((fresh: TlsMaterial) => void)[],
  log: Log,
): { readonly findRenewed: FindRenewed; readonly close: () => Promise<void> } {
  if (host === '' || keyRule === 'off') return { findRenewed: async () => undefined, close: async () => {} };
  const connect = ({ trustedServerCaPems: caPems, client: clientCertificate }: TlsMaterial) =>
    openServerClient({
      baseUrl: `https://${authority(host, port)}`,
      caPems,
      clientCertificate,
      timeoutMs: Math.min(request_timeout * 1000, LONGEST_ANSWER_MS),
      maxResponseBytes: MAX_ANSWER_BYTES,
      connections: 4,
    });
  const client = replaceableClient(connect(material));
  usesOfTls.push((fresh) => client.replace(connect(fresh)));
  return { findRenewed: askRegistrar(client, keyRule, log), close: () => client.close() };
}
