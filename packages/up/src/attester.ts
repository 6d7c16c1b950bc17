import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '@keylime/service/free-port';
import type { Boot } from '@keylime/software-tpm/boot';
import type { Guard } from './guard.ts';
import { listens } from './listens.ts';
import type { Machine } from './machine.ts';
import { ACTION_NAME, PAYLOAD_FOLDER } from './payload.ts';
import { execute, programOf, type Service, startService } from './process.ts';
import type { PushSite, Site } from './site.ts';
import { until } from './until.ts';

/** A machine with its agent. */
export type Attester = {
  readonly id: string;
  readonly machine: Machine;
  /** Number of the verifier that attests it. */
  readonly verifier: number;
  /** The agent's work directory, in memory. */
  readonly keylimeDir: string;
  readonly logFile: string;
  /** Milliseconds from the start of the agent until the registrar knew and believed its TPM. */
  readonly registeredMs: number;
  /** The verifier's word on it. */
  readonly status: () => Promise<{ readonly [key: string]: unknown } | undefined>;
  /** Switches the machine off and on, with these changes of what it boots; resolves when the agent is registered again. */
  readonly reboot: (changes: Partial<Boot>) => Promise<void>;
  readonly stop: () => Promise<void>;
};

export type AttesterOptions = {
  readonly id: string;
  readonly verifier?: number;
  /** Told if the agent ends by itself. */
  readonly broken: (reason: Error) => void;
  readonly guard?: Guard;
};

/** A tmpfs on Linux. */
const MEMORY = '/dev/shm';

/** Starts the agent of `machine` at `site`; resolves when it is registered. */
export async function startAttester(site: Site, machine: Machine, options: AttesterOptions): Promise<Attester> {
  const { id, verifier = 0 } = options;
  await using opened = new AsyncDisposableStack();
  const makers = machine.tpmMakerCertificates.map((pem, n) => site.trust(`${machine.name}-${n}`, pem));
  await Promise.all(makers);
  // The agent keeps payloads in memory, and only root could mount some.
  const keylimeDir = await mkdtemp(join(existsSync(MEMORY) ? MEMORY : tmpdir(), `keylime-up-${machine.name}-`));
  options.guard?.removes(keylimeDir);
  opened.defer(() => rm(keylimeDir, { recursive: true, force: true }));
  opened.defer(() => forgetSecrets(keylimeDir));
  const port = await freePort();
  const config = join(machine.folder, 'agent.conf');
  const quoted = JSON.stringify; // TOML's basic strings
  await writeFile(
    config,
    `[agent]\nuuid = "${id}"\nip = "127.0.0.1"\nport = ${port}\ncontact_ip = "127.0.0.1"\ncontact_port = ${port}\n` +
      `registrar_ip = "127.0.0.1"\nregistrar_port = ${site.registrarPort}\nrun_as = ""\n` +
      `trusted_client_ca = ${quoted(site.caFile)}\n` +
      `ima_ml_path = ${quoted(machine.measurementList)}\nmeasuredboot_ml_path = ${quoted(machine.bootLog)}\n` +
      (site.push === undefined ? '' : pushSettings(site.push, site, verifier)),
  );
  const logFile = join(site.folder, 'logs', `agent-${machine.name}.log`);

  let registrations = 0;
  async function start(): Promise<{ readonly service: Service; readonly registeredMs: number }> {
    const name = `agent of ${machine.name}`;
    const env = { KEYLIME_DIR: keylimeDir, KEYLIME_AGENT_CONFIG: config, TCTI: machine.tcti };
    const startedAt = performance.now();
    const service = startService(name, programOf('agent'), { env, logFile });
    void service.ended.then(options.broken);
    try {
      const broken = service.ended;
      const isNew = async () => {
        const record = await site.operator.read('registrar', `/v2.6/agents/${id}`);
        return Number(record?.regcount) > registrations ? Number(record?.regcount) : undefined;
      };
      registrations = await until(isNew, `the ${name} to register (${logFile})`, { broken, pollMs: 20 });
      const registeredMs = performance.now() - startedAt;
      if (site.push === undefined) await until(() => listens(port), `the ${name} to serve (${logFile})`, { broken });
      return { service, registeredMs };
    } catch (error) {
      await service.stop();
      throw error;
    }
  }
  let { service, registeredMs } = await start();
  const stopping = opened.move();
  stopping.defer(() => service.stop());
  return {
    id,
    machine,
    verifier,
    keylimeDir,
    logFile,
    registeredMs,
    status: () => site.operator.read(verifier, `/v2.6/agents/${id}`),
    async reboot(changes) {
      await service.stop();
      await forgetSecrets(keylimeDir); // memory does not outlive a machine that is switched off
      await machine.reboot(changes);
      ({ service } = await start());
    },
    stop: () => stopping.disposeAsync(),
  };
}

/** Without a payload the operator installs the action for revocations, and what they are verified with. */
function pushSettings({ verifierUrls, zeromqPort, revocationCerts }: PushSite, site: Site, verifier: number): string {
  const quoted = JSON.stringify;
  return (
    `mode = "push"\nverifier_url = ${quoted(verifierUrls[verifier])}\nverifier_tls_ca_cert = ${quoted(site.caFile)}\n` +
    // A verifier that starts again is not waited for longer than it takes.
    'attestation_interval_seconds = 2\nexponential_backoff_initial_delay = 500\nexponential_backoff_max_delay = 2000\n' +
    `enable_revocation_notifications = true\nrevocation_notification_port = ${zeromqPort}\n` +
    `revocation_verifier_certs = [${quoted(revocationCerts)}]\n` +
    `revocation_actions = [${quoted(ACTION_NAME)}]\nrevocation_actions_dir = ${quoted(join(site.folder, PAYLOAD_FOLDER))}\n`
  );
}

/** An agent of root's has mounted memory there if `MEMORY` is none. */
async function forgetSecrets(keylimeDir: string): Promise<void> {
  const secure = join(keylimeDir, 'secure');
  await execute('umount', [secure], {});
  await rm(secure, { recursive: true, force: true });
}
