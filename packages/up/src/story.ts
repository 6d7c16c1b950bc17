import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Boot } from '@keylime/software-tpm/boot';
import type { Attester } from './attester.ts';
import { runtimePolicyOf } from './machine.ts';
import { hasNoted, isDecrypted, isInstalled, isRevoked } from './payload.ts';
import type { Trial } from './trial.ts';
import { until } from './until.ts';
import type { Received } from './webhook-receiver.ts';

/** How long each step of a machine took, in milliseconds. */
export type Enrolled = {
  /** `keylime_tenant -c add` from start to end. */
  readonly enrolled_ms: number;
  /** From the end of `add` until a passing attestation could be read. */
  readonly first_pass_ms: number;
  /** From the start of `add` to the decrypted payload on the machine. */
  readonly bootstrap_ms: number;
};

export type Caught = {
  /** When the unknown program was measured, RFC 3339. */
  readonly tamper_at: string;
  /** From that moment until the verifier's verdict could be read. */
  readonly detected_ms: number;
  /** From the verdict to the arrival of the notification. */
  readonly notified_ms: number;
  /** From the measurement to the arrival of the notification. */
  readonly reported_ms: number;
  /** From the measurement until every other machine had verified the revocation and run its action. */
  readonly peer_notified_ms: number;
  /** What the notification names. */
  readonly event_id: string;
  readonly message: string;
};

export type BootCaught = {
  /** From the moment that the agent was there again until the verifier's verdict could be read. */
  readonly boot_detected_ms: number;
  readonly boot_event_id: string;
  readonly boot_message: string;
  /** The event that the policy refuses: its index in the boot log, and what it says. */
  readonly boot_event: number;
  readonly boot_found: string;
};

/** Between two questions to a verifier, which has other things to do. */
const ASK_MS = 20;
const CATCH_WITHIN_MS = 30_000;
const UNKNOWN = '/usr/local/bin/unknown';

/**
 * Enrols a machine with a payload and a policy that allows what it runs now; waits until it passes and the script of the
 * payload has run.
 */
export async function enrol({ site, payload, bootReference, broken }: Trial, attester: Attester): Promise<Enrolled> {
  const { id, machine, verifier, keylimeDir, status } = attester;
  const policyFile = join(machine.folder, 'policy.json');
  await writeFile(policyFile, await runtimePolicyOf(machine));
  const options = ['--runtime-policy', policyFile, '--cert', payload.caDir, '--include', payload.includeDir];
  options.push('--mb-policy', bootReference);
  const startedAt = performance.now();
  const since = () => performance.now() - startedAt;
  const adding = site.tenant(['-c', 'add', '-u', id, '-t', '127.0.0.1', ...options], verifier).then((added) => {
    if (added.code !== 0) throw new Error(`keylime_tenant could not enrol ${machine.name}:\n${added.output}`);
    return since();
  });
  // A refused `add` ends the waiting for what comes of it.
  const failed = adding.then(() => broken).catch((error: Error) => error);
  const passes = async () => (await status())?.attestation_status === 'PASS';
  const [addedMs, passedMs, decryptedMs] = await Promise.all([
    adding,
    adding.then(() => until(passes, `${machine.name} to pass`, { broken, pollMs: ASK_MS })).then(since),
    until(() => isDecrypted(keylimeDir, payload), `the payload of ${machine.name}`, { broken: failed }).then(since),
  ]);
  await until(() => isInstalled(keylimeDir, payload), `the script of the payload of ${machine.name}`, { broken });
  return { enrolled_ms: addedMs, first_pass_ms: passedMs - addedMs, bootstrap_ms: decryptedMs };
}

/**
 * Runs a program that the policy does not know, and waits until that is found and reported, the other machines of the same
 * verifier have acted upon it, and the certificate of the machine is revoked.
 */
export async function tamper(trial: Trial, { id, machine, verifier, status }: Attester): Promise<Caught> {
  const { site, payload, attesters, broken } = trial;
  const peers = attesters.filter((attester) => attester.id !== id && attester.verifier === verifier);
  const { measuredAtMs, path } = await machine.run(UNKNOWN, '#!/bin/sh\necho nobody knows me\n');
  const within = { broken, timeoutMs: CATCH_WITHIN_MS };
  const fails = async () => ((await status())?.attestation_status === 'FAIL' ? Date.now() : undefined);
  const reports = async () => site.webhook.received.find(isAbout(id));
  const [verdictAtMs, notification, ...actedAtMs] = await Promise.all([
    until(fails, `${path} to be detected`, { ...within, pollMs: ASK_MS }),
    until(reports, 'the verdict to be reported', within),
    ...peers.map(({ keylimeDir, machine: { name } }) =>
      until(() => hasNoted(keylimeDir, id), `${name} to act upon the revocation of ${machine.name}`, within).then(
        Date.now,
      ),
    ),
  ]);
  await until(() => isRevoked(payload, id), `the certificate of ${machine.name} to be revoked`, within);
  const { event_id: eventId, context } = notification.message;
  const { message } = JSON.parse(String(context)) as { readonly message?: unknown };
  if (!String(message).includes(path)) throw new Error(`The notification does not name ${path}: ${message}`);
  return {
    tamper_at: new Date(measuredAtMs).toISOString(),
    detected_ms: verdictAtMs - measuredAtMs,
    notified_ms: Math.max(0, notification.atMs - verdictAtMs),
    reported_ms: notification.atMs - measuredAtMs,
    peer_notified_ms: Math.max(...actedAtMs) - measuredAtMs,
    event_id: String(eventId),
    message: String(message),
  };
}

/** Switches a machine off and on with `changes` of what it boots, and waits until that is found. */
export async function bootOtherwise(
  { site, broken }: Trial,
  { id, machine, status, reboot }: Attester,
  changes: Partial<Boot>,
): Promise<BootCaught> {
  await reboot(changes);
  const startedAt = performance.now();
  const within = { broken, timeoutMs: CATCH_WITHIN_MS };
  const fails = async () => (await status())?.attestation_status === 'FAIL';
  await until(fails, `the boot of ${machine.name} to be detected`, { ...within, pollMs: ASK_MS });
  const boot_detected_ms = performance.now() - startedAt;
  const reports = async () => site.webhook.received.find(isAbout(id));
  const { event_id: eventId, context } = (await until(reports, 'the boot to be reported', within)).message;
  const { message, index, got } = JSON.parse(String(context)) as { readonly [name: string]: unknown };
  return {
    boot_detected_ms,
    boot_event_id: String(eventId),
    boot_message: String(message),
    boot_event: Number(index),
    boot_found: String(got),
  };
}

const isAbout =
  (id: string) =>
  ({ message }: Received): boolean =>
    message.type === 'revocation' && message.agent_id === id;
