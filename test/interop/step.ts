import type { Site } from './harness.ts';
import type { Finished } from './processes.ts';

export type StoryStep = {
  readonly step: string;
  readonly run: (site: Site, folder: string) => Promise<void>;
};

/** Every wait for an attestation: three intervals, retries after an agent's restart, and a busy machine. */
export const ATTESTED_MS = 30_000;

/** Thrown by a step that saw the wrong thing; the message says what was expected and what came. */
class Unexpected extends Error {}

export function expect(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Unexpected(message);
}

export const field = (value: unknown, ...names: readonly string[]): unknown =>
  names.reduce<unknown>(
    (at, name) => (at !== null && typeof at === 'object' ? Reflect.get(at, name) : undefined),
    value,
  );

/** The last line of the tenant's output that is a JSON object, as scripts find it (`grep '^{' | tail -1 | jq`). */
export function jsonLine({ stdout }: Finished): unknown {
  const line = stdout.split('\n').findLast((text) => text.startsWith('{"'));
  expect(line !== undefined, `no JSON line in the output:\n${stdout}`);
  return JSON.parse(line);
}

export function succeeded(what: string, done: Finished): Finished {
  const output = `${done.stdout}${done.stderr}`.trimEnd().split('\n').slice(-12).join('\n');
  expect(done.code === 0, `tenant ${what} ended with ${done.code}:\n${output}`);
  return done;
}

/** The agent's record at the verifier, or `undefined` while it has none. */
export const verifierRecord = async ({ agentId, get, ports }: Site): Promise<unknown> => {
  const { status, body } = await get(ports.verifier, `/v2.6/agents/${agentId}`);
  expect(status === 200 || status === 404, `GET /v2.6/agents/… of the verifier answered ${status}`);
  return status === 200 ? field(body, 'results') : undefined;
};

/** Runs the tenant and looks for `text` in what it prints. */
export async function prints(site: Site, args: readonly string[], text: string): Promise<void> {
  const what = args[1] ?? '';
  const { stdout } = succeeded(what, await site.tenant(...args));
  expect(stdout.includes(text), `tenant ${what} did not print ${text} but\n${stdout}`);
}

export const attestations = (record: unknown): number => Number(field(record, 'attestation_count'));
