import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type MeasurementRecorder, openRecorder } from '@keylime/software-tpm/recorder';
import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { startTpmMultiplexer } from '@keylime/software-tpm/tpm-multiplexer';
import { execute } from './process.ts';

/** A machine to try the system on: a software TPM, and programs whose start is measured. */
export type Machine = {
  /** For the variable TCTI. */
  readonly tcti: string;
  readonly measurementList: string;
  /** CA certificates of the TPM's maker, PEM. */
  readonly tpmMakerCertificates: readonly string[];
  /** Digests of what the machine may run, as a runtime policy (JSON text). */
  readonly policy: () => Promise<string>;
  /** Puts a program on the machine and runs it, measured as the kernel would; resolves when it is measured. */
  readonly run: (name: string, script: string) => Promise<{ readonly path: string; readonly measuredAtMs: number }>;
  readonly stop: () => Promise<void>;
};

/** Programs of a machine in good order. */
const KNOWN: readonly (readonly [path: string, script: string])[] = [
  ['/usr/bin/hello', '#!/bin/sh\necho hello\n'],
  ['/usr/sbin/backup', '#!/bin/sh\necho nothing to back up\n'],
];

export async function startMachine(folder: string): Promise<Machine> {
  await mkdir(folder, { recursive: true });
  const swtpm = await startSwtpm({ dir: join(folder, 'tpm') });
  const shared = await startTpmMultiplexer({ swtpm: { host: '127.0.0.1', port: swtpm.port } });
  const tcti = `swtpm:host=${shared.host},port=${shared.port}`;
  const measurementList = join(folder, 'ascii_runtime_measurements');
  await writeFile(measurementList, '');
  const recorder: MeasurementRecorder = await openRecorder(tcti, measurementList);

  async function install(path: string, script: string): Promise<string> {
    const file = join(folder, 'root', path);
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(file, script);
    await chmod(file, 0o755);
    return file;
  }
  for (const [path, script] of KNOWN) await recorder.measure(path, await install(path, script));

  return {
    tcti,
    measurementList,
    tpmMakerCertificates: swtpm.caCertificates,
    policy: () => policyOf(measurementList),
    async run(path, script) {
      const file = await install(path, script);
      await recorder.measure(path, file);
      const measuredAtMs = Date.now();
      await execute(file, [], {});
      return { path, measuredAtMs };
    },
    async stop() {
      await recorder.close();
      await shared.close();
      await swtpm.stop();
    },
  };
}

/** The runtime policy that allows exactly what a measurement list holds now. */
async function policyOf(measurementList: string): Promise<string> {
  const digests: Record<string, string[]> = {};
  for (const line of (await readFile(measurementList, 'utf8')).split('\n')) {
    const [, , , fileDigest = '', path] = line.split(' ');
    const hex = fileDigest.split(':')[1];
    if (path !== undefined && hex !== undefined) digests[path] = [...(digests[path] ?? []), hex];
  }
  return JSON.stringify({
    meta: { version: 1, generator: 3 },
    release: 0,
    digests,
    excludes: [],
    keyrings: {},
    ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: null },
    'ima-buf': {},
    'verification-keys': '',
  });
}
