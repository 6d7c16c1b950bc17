import { setTimeout as sleep } from 'node:timers/promises';
import { KERNEL_PATH } from '@keylime/software-tpm/boot';
import { type BootCaught, bootOtherwise, type Caught, type Enrolled, enrol, tamper } from './story.ts';
import type { Trial } from './trial.ts';

/** How long everything took; the names are those of the JSON that `--json` prints. */
export type StoryTimes = { readonly registered_ms: number } & Enrolled & Caught & BootCaught;

/**
 * Tells the story: three machines are enrolled and attested, one runs something unknown, another one boots something else.
 * @param hurry does not wait for a person to look
 */
export async function tellStory(trial: Trial, say: (text: string) => void, hurry: boolean): Promise<StoryTimes> {
  const [alpha, beta] = trial.attesters;
  if (alpha === undefined || beta === undefined) throw new Error('The story needs two machines at least.');
  const registeredMs = Math.max(...trial.attesters.map((one) => one.registeredMs));
  say(`✓ Registered: the registrar knows ${trial.attesters.length} machines by their TPMs (${ms(registeredMs)})`);

  // The machine that counts comes last: then the programs are warm, as they are where machines are enrolled every day.
  let enrolled: Enrolled | undefined;
  for (const attester of trial.attesters.toReversed()) {
    enrolled = await enrol(trial, attester);
    const { enrolled_ms, bootstrap_ms } = enrolled;
    say(
      `✓ Enrolled ${attester.machine.name} (${ms(enrolled_ms)}); attested, it has its secrets after ${ms(bootstrap_ms)}`,
    );
  }
  if (enrolled === undefined) throw new Error('No machine was enrolled.');

  if (!hurry) {
    for (let seconds = 5; seconds > 0; seconds--) {
      const { attestation_count: count } = (await alpha.status()) ?? {};
      say(`  alpha was attested ${count} times; in ${seconds} s it runs something unknown`);
      await sleep(1000);
    }
  }
  const caught = await tamper(trial, alpha);
  say(`✗ Caught ${alpha.machine.name}: ${caught.message}`);
  say(
    `  ${ms(caught.detected_ms)} after it was measured, reported after ${ms(caught.reported_ms)} (${caught.event_id})`,
  );
  say(`  The others have acted upon it after ${ms(caught.peer_notified_ms)}, and its certificate is on the CRL`);

  say(`  ${beta.machine.name} is switched off, and on again with init=/bin/sh on its kernel command line`);
  const boot = await bootOtherwise(trial, beta, {
    kernelCommandLine: `${KERNEL_PATH} root=LABEL=ROOT ro init=/bin/sh`,
  });
  say(`✗ Caught ${beta.machine.name}: ${boot.boot_message}`);
  say(`  Event ${boot.boot_event} of its boot log: ${boot.boot_found}`);
  say(`  ${ms(boot.boot_detected_ms)} after its agent was there again (${boot.boot_event_id})`);
  return { registered_ms: registeredMs, ...enrolled, ...caught, ...boot };
}

const ms = (value: number): string => `${Math.round(value)} ms`;
