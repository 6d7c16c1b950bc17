import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openServerClient } from '@keylime/service/http-client';

type Results = { readonly [key: string]: unknown };

/** What an operator asks the services. */
export type Operator = {
  /** `results` of an answer of the registrar, or the verifier of this number; `undefined` for another status than 200. */
  readonly read: (service: 'registrar' | number, path: string) => Promise<Results | undefined>;
  readonly close: () => Promise<void>;
};

/** An administrator with the client certificate of the automatic CA. */
export async function openOperator(
  caFolder: string,
  ports: { readonly registrar: number; readonly verifiers: readonly number[] },
): Promise<Operator> {
  const file = (name: string) => readFile(join(caFolder, name), 'utf8');
  const common = {
    caPems: [await file('cacert.crt')],
    clientCertificate: { certPem: await file('client-cert.crt'), keyPem: await file('client-private.pem') },
    timeoutMs: 10_000,
  };
  const clientOf = (port: number) => openServerClient({ ...common, baseUrl: `https://127.0.0.1:${port}` });
  const registrar = clientOf(ports.registrar);
  const verifiers = ports.verifiers.map(clientOf);
  return {
    async read(service, path) {
      const client = service === 'registrar' ? registrar : verifiers[service];
      if (client === undefined) throw new RangeError(`there is no verifier ${service}`);
      const { code, body } = await client.request({ method: 'GET', path });
      if (code !== 200) return undefined;
      return (JSON.parse(body.toString('utf8')) as { results: Results }).results;
    },
    async close() {
      await Promise.all([registrar, ...verifiers].map((client) => client.close()));
    },
  };
}
