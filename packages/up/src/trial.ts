import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { makeBootCertificates } from '@keylime/software-tpm/boot-certificates';
import { type Attester, startAttester } from './attester.ts';
import { openGuard } from './guard.ts';
import { startMachine } from './machine.ts';
import { type Payload, preparePayload, writeCaSettings } from './payload.ts';
import { execute, programOf } from './process.ts';
import { type Site, type SiteOptions, startSite } from './site.ts';

/** The whole system on one machine: what an operator runs, machines with software TPMs and their agents, a payload. */
export type Trial = {
  readonly site: Site;
  readonly attesters: readonly Attester[];
  readonly payload: Payload;
  /** What the machines may boot, as a reference state of the policy `strict`. */
  readonly bootReference: string;
  /** Resolves with the reason if one of the programs ends by itself. */
  readonly broken: Promise<Error>;
  /** Stops everything, for `await using`. */
  readonly [Symbol.asyncDispose]: () => Promise<void>;
};

export type TrialOptions = SiteOptions & {
  /** Names of the machines. The agents of the first half belong to the first verifier, and so on. */
  readonly machines: readonly string[];
  /** Hears what is being done. */
  readonly say: (text: string) => void;
};

/** Id of the machine of this number, from 0. */
export const agentIdOf = (number: number): string => `d432fbb3-d2f1-4a97-9ef7-75bd81c0000${number}`;

/** Starts everything in `folder`, which is emptied first. */
export async function startTrial(options: TrialOptions): Promise<Trial> {
  const { folder, machines: names, verifiers = 1, say } = options;
  await rm(folder, { recursive: true, force: true });
  await using opened = new AsyncDisposableStack();
  const guard = openGuard();
  opened.defer(guard.close);
  const { promise: broken, resolve } = Promise.withResolvers<Error>();

  say(`Making ${names.length} machines with software TPMs, a registrar, a verifier and a CA`);
  const certificates = await makeBootCertificates();
  const ids = names.map((_, n) => agentIdOf(n));
  await writeCaSettings(folder);
  const [site, payload, ...machines] = await all(
    startSite(options).then(kept(opened)),
    preparePayload(folder, ids),
    ...names.map((name) => startMachine(name, join(folder, name), certificates).then(kept(opened))),
  );
  void site.broken.then(resolve);

  say('Starting their agents');
  const bootReference = join(folder, 'boot.json');
  const [, ...attesters] = await all(
    writeBootReference(machines[0]?.bootLog ?? '', bootReference),
    ...machines.map((machine, n) => {
      const verifier = Math.floor((n * verifiers) / names.length);
      const started = startAttester(site, machine, { id: agentIdOf(n), verifier, broken: resolve, guard });
      return started.then(kept(opened));
    }),
  );
  const stopping = opened.move();
  return { site, attesters, payload, bootReference, broken, [Symbol.asyncDispose]: () => stopping.disposeAsync() };
}

/** What a machine in good order boots is what all may boot. */
async function writeBootReference(bootLog: string, file: string): Promise<void> {
  const args = ['create', 'measured-boot', '--eventlog-file', bootLog, '--output', file];
  const made = await execute(process.execPath, [programOf('policy'), ...args], {});
  if (made.code !== 0) throw new Error(`keylime-policy ${args.join(' ')} failed:\n${made.output}`);
}

const kept =
  (opened: AsyncDisposableStack) =>
  <T extends { readonly stop: () => Promise<void> }>(one: T): T => {
    opened.defer(() => one.stop());
    return one;
  };

/** Like `Promise.all`, but waits for the others when one fails, so that they can be stopped. */
async function all<T extends readonly Promise<unknown>[]>(
  ...started: T
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(started);
  return Promise.all(started) as Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }>;
}
