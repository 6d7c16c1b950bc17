import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeEventLog } from '@keylime/event-log/encode';
import { type Boot, bootEvents, goodBoot } from '@keylime/software-tpm/boot';
import type { BootCertificates } from '@keylime/software-tpm/boot-certificates';
import { BOOT_BANKS, measureBoot, shutDown } from '@keylime/software-tpm/measure-boot';
import { type MeasurementRecorder, openRecorder } from '@keylime/software-tpm/recorder';
import { type Swtpm, startSwtpm } from '@keylime/software-tpm/swtpm';
import { startTpmMultiplexer, type TpmMultiplexer } from '@keylime/software-tpm/tpm-multiplexer';
import { execute } from './process.ts';

/** A machine to try the system on: a software TPM, a boot that is measured, and programs whose start is measured. */
export type Machine = {
  readonly name: string;
  readonly folder: string;
  /** For the variable TCTI. */
  readonly tcti: string;
  readonly measurementList: string;
  readonly bootLog: string;
  /** CA certificates of the TPM's maker, PEM. */
  readonly tpmMakerCertificates: readonly string[];
  /** Puts a program on the machine and runs it, measured as the kernel would; resolves when it is measured. */
  readonly run: (path: string, script: string) => Promise<{ readonly path: string; readonly measuredAtMs: number }>;
  /** Starts the machine again, with these changes of what it boots. Its agent must not run. */
  readonly reboot: (changes: Partial<Boot>) => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** Programs of a machine in good order. */
const KNOWN: readonly (readonly [path: string, script: string])[] = [
  ['/usr/bin/hello', '#!/bin/sh\necho hello\n'],
  ['/usr/sbin/backup', '#!/bin/sh\necho nothing to back up\n'],
];

/** What is gone when a machine is switched off. */
type Session = { readonly shared: TpmMultiplexer; readonly recorder: MeasurementRecorder };

/** Makes a machine in `folder` and boots it, in good order. */
export async function startMachine(name: string, folder: string, certificates: BootCertificates): Promise<Machine> {
  await mkdir(folder, { recursive: true });
  const measurementList = join(folder, 'ascii_runtime_measurements');
  const bootLog = join(folder, 'binary_bios_measurements');
  const good = goodBoot(certificates);

  async function install(path: string, script: string): Promise<string> {
    const file = join(folder, 'root', path);
    await mkdir(join(file, '..'), { recursive: true });
    await writeFile(file, script);
    await chmod(file, 0o755);
    return file;
  }

  /** `port` is that of the shared TPM, 0 for any. */
  async function boot(swtpm: Swtpm, what: Boot, port: number): Promise<Session> {
    const log = encodeEventLog(BOOT_BANKS, bootEvents(what));
    await measureBoot(swtpm.tcti, log);
    await writeFile(bootLog, log);
    await writeFile(measurementList, '');
    const shared = await startTpmMultiplexer({ swtpm: { host: '127.0.0.1', port: swtpm.port }, port });
    const recorder = await openRecorder(tctiOf(shared), measurementList, BOOT_BANKS);
    for (const [path, script] of KNOWN) await recorder.measure(path, await install(path, script));
    return { shared, recorder };
  }

  const swtpm = await startSwtpm({ dir: join(folder, 'tpm'), banks: BOOT_BANKS });
  let session = await boot(swtpm, good, 0);
  const switchOff = async () => {
    await session.recorder.close();
    await session.shared.close();
  };
  return {
    name,
    folder,
    tcti: tctiOf(session.shared),
    measurementList,
    bootLog,
    tpmMakerCertificates: swtpm.caCertificates,
    async run(path, script) {
      const file = await install(path, script);
      await session.recorder.measure(path, file);
      const measuredAtMs = Date.now();
      await execute(file, [], {});
      return { path, measuredAtMs };
    },
    async reboot(changes) {
      await switchOff();
      await shutDown(swtpm.tcti);
      await swtpm.restart();
      session = await boot(swtpm, { ...good, ...changes }, session.shared.port);
    },
    async stop() {
      await switchOff();
      await swtpm.stop();
    },
  };
}

const tctiOf = ({ host, port }: TpmMultiplexer): string => `swtpm:host=${host},port=${port}`;

/** The runtime policy (JSON text) that allows exactly what the measurement list of `machine` holds now. */
export async function runtimePolicyOf({ measurementList }: Machine): Promise<string> {
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
