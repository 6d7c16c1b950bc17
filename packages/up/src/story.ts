import { setTimeout as sleep } from 'node:timers/promises';
import type { Trial } from './trial.ts';
import { until } from './trial.ts';

/** How long each step took, in milliseconds. */
export type StoryTimes = {
  /** Agent started to TPM known and believed. */
  readonly registered_ms: number;
  /** `keylime_tenant -c add` from start to end. */
  readonly enrolled_ms: number;
  /** From the enrolment to the first passing attestation. */
  readonly first_pass_ms: number;
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

const POLL_MS = 2;
const UNKNOWN = '/usr/local/bin/unknown';

/** Enrols the machine and waits until it passes. */
export async function enrol(
  trial: Trial,
  policyFile: string,
): Promise<Pick<StoryTimes, 'enrolled_ms' | 'first_pass_ms'>> {
  const started = performance.now();
  const added = await trial.tenant('-c', 'add', '-u', trial.agentId, '-t', '127.0.0.1', '--runtime-policy', policyFile);
  if (added.code !== 0) throw new Error(`keylime_tenant could not enrol the machine:\n${added.output}`);
  const enrolledAt = performance.now();
  await until(async () => (await trial.status())?.attestation_status === 'PASS', trial.broken, 'the machine to pass');
  return { enrolled_ms: enrolledAt - started, first_pass_ms: performance.now() - enrolledAt };
}

/** Runs a program that the policy does not know, and waits until that is found and reported. */
export async function tamper(
  trial: Trial,
): Promise<Omit<StoryTimes, 'registered_ms' | 'enrolled_ms' | 'first_pass_ms'>> {
  const { measuredAtMs, path } = await trial.machine.run(UNKNOWN, '#!/bin/sh\necho nobody knows me\n');
  while ((await trial.status())?.attestation_status !== 'FAIL') {
    if (Date.now() - measuredAtMs > 30_000) throw new Error(`${path} ran and was not detected within 30 seconds.`);
    await sleep(POLL_MS);
  }
  const verdictAtMs = Date.now();
  const notification = await Promise.race([
    trial.webhook.next(),
    sleep(30_000).then(() => {
      throw new Error('The verdict was not reported within 30 seconds.');
    }),
  ]);
  const { event_id: eventId, context } = notification.message;
  const message = (JSON.parse(String(context)) as { message?: unknown }).message;
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
