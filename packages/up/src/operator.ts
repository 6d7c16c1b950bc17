import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openServerClient } from '@keylime/service/http-client';

/** What an operator asks the services. */
export type Operator = {
  /** `results` of an answer, or `undefined` for another status than 200. */
  readonly read: (
    service: 'registrar' | 'verifier',
    path: string,
  ) => Promise<{ readonly [key: string]: unknown } | undefined>;
  readonly close: () => Promise<void>;
};

/** An administrator with the client certificate of the automatic CA. */
export async function openOperator(
  caFolder: string,
  ports: { readonly registrar: number; readonly verifier: number },
): Promise<Operator> {
  const file = (name: string) => readFile(join(caFolder, name), 'utf8');
  const common = {
    caPems: [await file('cacert.crt')],
    clientCertificate: { certPem: await file('client-cert.crt'), keyPem: await file('client-private.pem') },
    timeoutMs: 10_000,
  };
  const clients = {
    registrar: openServerClient({ ...common, baseUrl: `https://127.0.0.1:${ports.registrar}` }),
    verifier: openServerClient({ ...common, baseUrl: `https://127.0.0.1:${ports.verifier}` }),
  };
  return {
    async read(service, path) {
      const { code, body } = await clients[service].request({ method: 'GET', path });
      if (code !== 200) return undefined;
      return (JSON.parse(body.toString('utf8')) as { results: { readonly [key: string]: unknown } }).results;
    },
    async close() {
      await Promise.all([clients.registrar.close(), clients.verifier.close()]);
    },
  };
}
