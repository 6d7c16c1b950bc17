import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Attester } from './attester.ts';
import { runtimePolicyOf } from './machine.ts';
import type { Trial } from './trial.ts';
import { until } from './until.ts';
import type { Received } from './webhook-receiver.ts';

/** How long each step of a machine took, in milliseconds. */
export type Enrolled = {
  /** `keylime_tenant -c add` from start to end. */
  readonly enrolled_ms: number;
  /** From the end of `add` to the first passing attestation; 0 if that came before. */
  readonly first_pass_ms: number;
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
  /** What the notification names. */
  readonly event_id: string;
  readonly message: string;
};

const CATCH_WITHIN_MS = 30_000;
const UNKNOWN = '/usr/local/bin/unknown';

/** Enrols a machine, with a policy that allows what it runs now, and waits until it passes. */
export async function enrol({ site, broken }: Trial, { id, machine, verifier, status }: Attester): Promise<Enrolled> {
  const policyFile = join(machine.folder, 'policy.json');
  await writeFile(policyFile, await runtimePolicyOf(machine));
  const startedAt = performance.now();
  const added = await site.tenant(['-c', 'add', '-u', id, '-t', '127.0.0.1', '--runtime-policy', policyFile], verifier);
  if (added.code !== 0) throw new Error(`keylime_tenant could not enrol ${machine.name}:\n${added.output}`);
  const enrolledAt = performance.now();
  const passes = async () => ((await status())?.attestation_status === 'PASS' ? true : undefined);
  await until(passes, `${machine.name} to pass`, { broken });
  return { enrolled_ms: enrolledAt - startedAt, first_pass_ms: performance.now() - enrolledAt };
}

/** Runs a program that the policy does not know, and waits until that is found and reported. */
export async function tamper({ site, broken }: Trial, { id, machine, status }: Attester): Promise<Caught> {
  const { measuredAtMs, path } = await machine.run(UNKNOWN, '#!/bin/sh\necho nobody knows me\n');
  const within = { broken, timeoutMs: CATCH_WITHIN_MS };
  const fails = async () => ((await status())?.attestation_status === 'FAIL' ? Date.now() : undefined);
  const reports = async () => site.webhook.received.find(isAbout(id));
  const [verdictAtMs, notification] = await Promise.all([
    until(fails, `${path} to be detected`, within),
    until(reports, 'the verdict to be reported', within),
  ]);
  const { event_id: eventId, context } = notification.message;
  const { message } = JSON.parse(String(context)) as { readonly message?: unknown };
  if (!String(message).includes(path)) throw new Error(`The notification does not name ${path}: ${message}`);
  return {
    tamper_at: new Date(measuredAtMs).toISOString(),
    detected_ms: verdictAtMs - measuredAtMs,
    notified_ms: Math.max(0, notification.atMs - verdictAtMs),
    reported_ms: notification.atMs - measuredAtMs,
    event_id: String(eventId),
    message: String(message),
  };
}

const isAbout =
  (id: string) =>
  ({ message }: Received): boolean =>
    message.type === 'revocation' && message.agent_id === id;
