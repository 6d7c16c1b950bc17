import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { measuredIn } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { replayEventLog } from '@keylime/event-log/replay';

const SIZE = 100_000;

const bios = readFileSync(new URL('../packages/testing/vectors/debian12-secureboot-vm/bios.bin', import.meta.url));

/** The log of a real machine with its records again and again, up to `size` bytes: banks sha1, sha256 and sha384. */
function logOf(size: number): Buffer {
  const { events } = decodeEventLog(bios);
  const start = events[1]?.offset ?? 0;
  const parts = [bios];
  for (let length = bios.length; length < size; length += bios.length - start) parts.push(bios.subarray(start));
  return Buffer.concat(parts);
}

/** CPU time of this process in milliseconds, so that a busy machine does not change the result. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

/** Milliseconds of CPU time that one call of `step` takes, over `seconds` after a fifth of that for warming up. */
function milliseconds(seconds: number, step: () => void): number {
  const measure = (durationMs: number): number => {
    const start = cpuMs();
    let calls = 0;
    while (cpuMs() - start < durationMs) {
      for (let i = 0; i < 5; i++) step();
      calls += 5;
    }
    return (cpuMs() - start) / calls;
  };
  measure(seconds * 200);
  return Number(measure(seconds * 1000).toFixed(3));
}

/** A log of 100 KB decoded, replayed in all its banks, and its data compared with its digests. */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { seconds: { type: 'string', default: '3' } },
    strict: false,
  });
  const seconds = Number(values.seconds);
  const bytes = logOf(SIZE);
  const log = decodeEventLog(bytes);
  const start = cpuMs();
  replayEventLog(decodeEventLog(bytes));
  const firstMs = Number((cpuMs() - start).toFixed(3));
  return {
    benchmark: 'event-log',
    seconds,
    log: { bytes: bytes.length, events: log.events.length, banks: log.banks },
    milliseconds: {
      decode: milliseconds(seconds, () => decodeEventLog(bytes)),
      replayAllBanks: milliseconds(seconds, () => replayEventLog(log)),
      decodeAndReplayAllBanks: milliseconds(seconds, () => replayEventLog(decodeEventLog(bytes))),
      coverageOneBank: milliseconds(seconds, () => {
        for (const event of log.events) measuredIn(event, 'sha256');
      }),
      /** Before anything is compiled: what the first machine after a start costs. */
      firstDecodeAndReplay: firstMs,
    },
  };
}
