import { hash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { bad } from '@keylime/core/parsed';
import { decodeStoredPolicyInSteps, EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { runStepsInTurns } from '@keylime/service/steps-in-turns';
import { openPolicyRegistry } from '@keylime/verifier/policy-registry';

const TEXT_BYTES = 20_000_000;
const NAMES = 1000;

/** A policy of one digest per file whose text has about `bytes` bytes. */
function policyText(bytes: number): string {
  const digests: Record<string, string[]> = {};
  for (let i = 0, size = 0; size < bytes; i++) {
    const path = `/usr/lib/x86_64-linux-gnu/package-${i % 977}/libthing-${i}.so.1`;
    digests[path] = [hash('sha256', path)];
    size += path.length + 73;
  }
  return JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), digests });
}

/** Longest time in which nothing else was done, in milliseconds, while `work` ran. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  let last = performance.now();
  let longest = 0;
  let going = true;
  const tick = () => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    if (going) setImmediate(tick);
  };
  tick();
  await work();
  going = false;
  return Math.max(longest, performance.now() - last);
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  // Buffers that the first one found to be free are given back by the second.
  gc();
  gc();
}

const megabytes = (): number => {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return (heapUsed + arrayBuffers) / 1e6;
};

/**
 * What a large runtime policy costs a verifier: CPU time to decode it, for how long the event loop stands still meanwhile,
 * and memory, for one name and for a thousand names of the same content, as agents of the older API bring them.
 */
export async function run(): Promise<object> {
  const text = policyText(TEXT_BYTES);
  const checksum = hash('sha256', text);
  const find = async (name: string) => ({ name, text, checksum, generator: 3 });
  let decodings = 0;
  let cpuSeconds = 0;
  const registry = openPolicyRegistry({ find }, async (stored) => {
    decodings++;
    const start = process.cpuUsage();
    const decoded = await runStepsInTurns(decodeStoredPolicyInSteps(stored.text));
    const { user, system } = process.cpuUsage(start);
    cpuSeconds += (user + system) / 1e6;
    return decoded.ok ? decoded : bad(decoded.problem[0].message);
  });
  const before = megabytes();
  const standstillMs = await longestTurn(() => registry.get('policy-0'));
  const one = megabytes();
  for (let i = 1; i < NAMES; i++) await registry.get(`policy-${i}`);
  const all = megabytes();
  return {
    benchmark: 'policy-load',
    textMegabytes: Number((text.length / 1e6).toFixed(1)),
    files: registry.peek('policy-0')?.digests.size,
    cpuSeconds: Number(cpuSeconds.toFixed(2)),
    standstillMs: Math.round(standstillMs),
    decodings,
    megabytes: { ofOneName: Math.round(one - before), [`of${NAMES}Names`]: Math.round(all - before) },
  };
}
