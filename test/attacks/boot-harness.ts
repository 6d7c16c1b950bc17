import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startTestRegistrar } from '@keylime/agent/test-registrar';
import { digest } from '@keylime/core/digest';
import { hintData } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import type { SignatureJson, StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { freePort } from '@keylime/service/free-port';
import { type Boot, bootEvents, goodBoot, INITRD_PATH } from '@keylime/software-tpm/boot';
import { makeBootCertificates } from '@keylime/software-tpm/boot-certificates';
import { BOOT_BANKS, measureBoot } from '@keylime/software-tpm/measure-boot';
import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { openTransport } from '@keylime/tpm/tcti';
import type { AttackedVerifier, EnrolledAgent } from './verifier-harness.ts';

/** A machine whose boot is judged: the agent as a process, on a software TPM that was booted. */
export type BootedMachine = EnrolledAgent & {
  /** Starts the machine and its agent, again if it runs: the TPM measures `log`, the agent serves `served`. */
  readonly boot: (log: Uint8Array, served?: Uint8Array) => Promise<void>;
  /** Root writes another log. */
  readonly serve: (log: Uint8Array) => void;
  readonly stop: () => Promise<void>;
};

export const MACHINE_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';

const PROGRAM = fileURLToPath(new URL('../../packages/agent/bin/keylime_agent.mjs', import.meta.url));
const certificates = await makeBootCertificates();

/** What machines of these tests boot, all alike, with some changes. */
export const bootOf = (changes: Partial<Boot> = {}): readonly EventToEncode[] =>
  bootEvents({ ...goodBoot(certificates), ...changes });

export const logOf = (events: readonly EventToEncode[]): Buffer => encodeEventLog(BOOT_BANKS, events);

/** The log of a machine in good order. */
export const GOOD_LOG: Buffer = logOf(bootOf());

/** The reference state of `strict` for such machines, JSON text, with some changes. */
export function strictReference(changes: Partial<StrictReferenceJson> = {}): string {
  const { firmware, firmwareVersion, shim, grub, kernel, initrd, kernelCommandLine, mokList, mokListX } =
    goodBoot(certificates);
  const hex = (...parts: readonly Uint8Array[]) => `0x${digest('sha256', ...parts).toString('hex')}`;
  const image = (content: Uint8Array) => hex(Buffer.from('Authenticode of '), content);
  const configuration = `linux ${kernelCommandLine}\ninitrd ${INITRD_PATH}\n`;
  const reference: StrictReferenceJson = {
    scrtm_and_bios: [
      {
        scrtm: { sha256: hex(Buffer.from(`${firmwareVersion}\0`, 'utf16le')) },
        platform_firmware: [{ sha256: hex(firmware) }],
      },
    ],
    pk: signaturesOf('PK'),
    kek: signaturesOf('KEK'),
    db: signaturesOf('db'),
    dbx: signaturesOf('dbx'),
    mokdig: [{ sha256: hex(mokList) }],
    mokxdig: [{ sha256: hex(mokListX) }],
    kernels: [
      {
        shim_authcode_sha256: image(shim),
        grub_authcode_sha256: image(grub),
        kernel_authcode_sha256: image(kernel),
        vmlinuz_plain_sha256: hex(kernel),
        initrd_plain_sha256: hex(initrd),
        kernel_cmdline: kernelCommandLine,
      },
    ],
    digests: { 9: [{ sha256: hex(Buffer.from(configuration)) }] },
    grub_commands: ['source .*', 'linux .*', 'initrd .*', 'boot'],
    unlisted: ['boot_variables', 'gpt'],
    ...changes,
  };
  return JSON.stringify(reference);
}

/** The entries of a signature database of such machines. */
const signaturesOf = (name: string): readonly SignatureJson[] =>
  decodeEventLog(GOOD_LOG).events.flatMap((event) => {
    const data = hintData(event);
    if (data.kind !== 'variable' || data.name !== name || data.value.kind !== 'signature_database') return [];
    return data.value.lists.flatMap(({ signatures }) =>
      signatures.map(({ owner, data }) => ({ SignatureOwner: owner, SignatureData: `0x${data.toString('hex')}` })),
    );
  });

/** TPM2_Shutdown(TPM_SU_CLEAR), as an operating system sends it: a TPM takes a restart without it for an attack. */
const SHUTDOWN = Buffer.from('80010000000c000001450000', 'hex');

async function shutDown(tcti: string): Promise<void> {
  const transport = await openTransport(tcti);
  await transport.transmit(SHUTDOWN);
  await transport.close();
}

/** A machine that is off, whose agent is to answer this verifier. */
export async function startBootedMachine(verifier: AttackedVerifier): Promise<BootedMachine> {
  const home = mkdtempSync('/dev/shm/keylime-booted-');
  const bootLog = path.join(home, 'binary_bios_measurements');
  const tpm = await startSwtpm({ certificates: false, banks: BOOT_BANKS });
  const registrar = await startTestRegistrar();
  const port = await freePort();
  mkdirSync(path.join(home, 'cv_ca'));
  writeFileSync(path.join(home, 'cv_ca', 'cacert.crt'), verifier.ca.certPem);
  const settings = {
    uuid: MACHINE_ID,
    port,
    registrar_port: registrar.port,
    run_as: '',
    measuredboot_ml_path: bootLog,
  };
  const toml = Object.entries(settings).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const file = path.join(home, 'agent.conf');
  writeFileSync(file, `[agent]\n${toml.join('\n')}\n`);
  let agent: ChildProcess | undefined;

  async function startAgent(): Promise<void> {
    const env = { PATH: process.env.PATH, TCTI: tpm.tcti, KEYLIME_DIR: home, KEYLIME_AGENT_CONFIG: file };
    const child = spawn(process.execPath, [PROGRAM], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    agent = child;
    let output = '';
    await new Promise<void>((resolve, reject) => {
      const read = (text: string) => {
        output += text;
        if (/Listening on https:/.test(output)) resolve();
      };
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', read);
      child.once('close', () => reject(new Error(`the agent ended: ${output}`)));
    });
  }
  async function stopAgent(): Promise<void> {
    if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return;
    const closed = once(agent, 'close');
    agent.kill('SIGTERM');
    await closed;
  }

  const machine: BootedMachine = {
    id: MACHINE_ID,
    port,
    get registered() {
      const body = registrar.registered.at(-1)?.body;
      assert.ok(body?.mtls_cert, 'the agent registered');
      return { ak_tpm: body.aik_tpm, mtls_cert: body.mtls_cert };
    },
    async boot(log, served = log) {
      if (agent !== undefined) {
        await stopAgent();
        await shutDown(tpm.tcti);
        await tpm.restart();
      }
      await measureBoot(tpm.tcti, log);
      writeFileSync(bootLog, served);
      await startAgent();
    },
    serve: (log) => writeFileSync(bootLog, log),
    async stop() {
      await stopAgent();
      await registrar.close();
      await tpm.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
  return machine;
}
