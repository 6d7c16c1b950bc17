import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openServerClient } from '@keylime/service/http-client';
import { answerOf } from './fleet-process.ts';
import type { VerifierSample } from './verifier-process.ts';

/** Our verifier in a process of its own, with its administrator's client. */
export type OurVerifier = {
  readonly caPem: string;
  readonly call: (method: 'GET' | 'POST' | 'DELETE', path: string, json?: unknown) => Promise<number>;
  readonly sample: () => Promise<VerifierSample>;
  readonly stop: () => Promise<void>;
};

/** `watch`: a regular expression; only agents whose ids match are timed. `nodeOptions` such as `--cpu-prof`. */
export async function startOurVerifier(options: {
  readonly quoteIntervalSeconds: number;
  readonly watch?: string;
  readonly nodeOptions?: readonly string[];
}): Promise<OurVerifier> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-verifier-'));
  const configFile = join(folder, 'verifier.conf');
  await writeFile(
    configFile,
    `[verifier]\nquote_interval = ${options.quoteIntervalSeconds}\n[revocations]\nenabled_revocation_notifications = []\n`,
  );
  const child = fork(join(fileURLToPath(import.meta.url), '../verifier-process.ts'), [], {
    env: {
      ...process.env,
      KEYLIME_DIR: folder,
      KEYLIME_VERIFIER_CONFIG: configFile,
      ...(options.watch === undefined ? {} : { BENCH_WATCH: options.watch }),
    },
    execArgv: [...(options.nodeOptions ?? [])],
  });
  const { port } = await answerOf<{ readonly port: number }>(child);
  const file = (name: string) => readFile(join(folder, 'cv_ca', name), 'utf8');
  const caPem = await file('cacert.crt');
  const client = openServerClient({
    baseUrl: `https://127.0.0.1:${port}`,
    caPems: [caPem],
    clientCertificate: { certPem: await file('client-cert.crt'), keyPem: await file('client-private.pem') },
    timeoutMs: 60_000,
  });
  return {
    caPem,
    call: async (method, path, json) =>
      (await client.request({ method, path, ...(json === undefined ? {} : { json }) })).code,
    sample: async () => {
      child.send('sample');
      return answerOf<VerifierSample>(child);
    },
    stop: async () => {
      await client.close();
      child.disconnect();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await rm(folder, { recursive: true });
    },
  };
}
