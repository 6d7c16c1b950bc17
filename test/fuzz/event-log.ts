import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { coveredData, hintBytes, hintData, measuredIn } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog, encodeSha1Log } from '@keylime/event-log/encode';
import { EVENT_TYPES } from '@keylime/event-log/event-type';
import { replayBank } from '@keylime/event-log/replay';
import { mutate } from './mutate.ts';
import { type FuzzOptions, type Random, seededRandom } from './options.ts';

const DEFAULT_COUNT = 10_000_000;
const MEGABYTE = 1_048_576;
/** The longest that a log of 1 MB may take, in milliseconds of the thread's CPU time. */
const LONGEST_MS = 100;
/** One input of so many is a log of 1 MB, one of so many a whole log of a machine; the others have a few records. */
const LARGE_EVERY = 20_000;
const MACHINE_EVERY = 50;
/** PCRs in which boot loaders mean different things by the same event type. */
const PCRS = [0, 5, 7, 8, 9, 11, 12, 14];

const machines = ['debian12-secureboot-vm', 'debian12-uefi-vm'].map((machine) =>
  readFileSync(new URL(`../../packages/testing/vectors/${machine}/bios.bin`, import.meta.url)),
);

/** Short logs to start from: records of real machines, and every event type with the data of others. */
function seedLogs(): readonly Buffer[] {
  const records = machines.flatMap((machine) =>
    decodeEventLog(machine)
      .events.slice(1)
      .map((event): EventToEncode => ({ pcr: event.pcr, type: event.typeId, data: hintBytes(event) }))
      .filter(({ data }) => data.length < 400),
  );
  const strangers = Object.values(EVENT_TYPES).flatMap((type, i) =>
    records.map(({ data }, j) => ({ pcr: PCRS[(i + j) % PCRS.length] ?? 0, type, data })),
  );
  const logs: Buffer[] = [];
  for (const events of [records, strangers]) {
    for (let i = 0; i < events.length; i += 3) {
      const some = events.slice(i, i + 3);
      logs.push(
        encodeSha1Log(some),
        encodeEventLog(['sha256'], some),
        encodeEventLog(['sha1', 'sha256', 'sha384'], some),
      );
    }
  }
  return logs;
}

/** Mutated records again and again, up to 1 MB. */
function largeLog(log: Buffer, random: Random): Buffer {
  const { events } = decodeEventLog(log);
  const start = events[1]?.offset ?? 0;
  const records = mutate(log.subarray(start), random);
  const copies = Math.ceil(MEGABYTE / Math.max(1, records.length));
  return mutate(
    Buffer.concat([log.subarray(0, start), ...Array<Buffer>(copies).fill(records)]).subarray(0, MEGABYTE),
    random,
  );
}

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
};

/** Everything that a verifier and the tool do with a log, and what must hold of any. */
function readLog(bytes: Buffer, count: (kind: string) => void): void {
  const log = decodeEventLog(bytes);
  for (const bank of log.banks) replayBank(log, bank);
  let last = -1;
  for (const event of log.events) {
    if (event.index <= last) throw new Error(`event ${event.index} behind ${last}`);
    last = event.index;
    const hint = hintData(event);
    for (const bank of log.banks) {
      const measured = measuredIn(event, bank);
      const covered = measured && coveredData(measured);
      if (covered !== undefined && measured !== undefined && ['none', 'mismatch'].includes(measured.coverage)) {
        throw new Error(`event ${event.index} gives data that its digest does not cover`);
      }
    }
    if (hint.kind === 'malformed' && !log.problems.some(({ index }) => index === event.index)) {
      throw new Error(`event ${event.index} is malformed and not reported`);
    }
  }
  for (const { kind } of log.problems) count(kind);
}

/** Ten million mutated boot event logs: none may crash the decoder, or keep it longer than its size allows. */
export async function run({ count = DEFAULT_COUNT, seed, say }: FuzzOptions) {
  const random = seededRandom(seed);
  const logs = seedLogs();
  const problems: Record<string, number> = {};
  const started = performance.now();
  let [bytes, largeLogs, slowestLargeMs] = [0, 0, 0];
  const report = (inputs: number) => ({
    target: 'event-log',
    seed,
    inputs,
    megabytes: Math.round(bytes / MEGABYTE),
    seconds: Math.round((performance.now() - started) / 1000),
    seedLogs: logs.length,
    largeLogs,
    slowestLargeMs: Number(slowestLargeMs.toFixed(1)),
    problems,
  });
  for (let i = 0; i < count; i++) {
    const large = i % LARGE_EVERY === LARGE_EVERY - 1;
    const source = i % MACHINE_EVERY === 0 ? machines[random(machines.length)] : logs[random(logs.length)];
    if (source === undefined) throw new Error('no log to start from');
    const input = large ? largeLog(source, random) : mutate(source, random);
    bytes += input.length;
    const before = large ? cpuMs() : 0;
    try {
      readLog(input, (kind) => {
        problems[kind] = (problems[kind] ?? 0) + 1;
      });
    } catch (error) {
      return { ...report(i + 1), failure: `${String(error)}; input in ${keep(input)}` };
    }
    if (large) {
      largeLogs++;
      const taken = cpuMs() - before;
      slowestLargeMs = Math.max(slowestLargeMs, taken);
      if (taken > LONGEST_MS) return { ...report(i + 1), failure: `${taken} ms for a log; input in ${keep(input)}` };
    }
    if ((i + 1) % 1_000_000 === 0) say(`${i + 1} logs after ${Math.round((performance.now() - started) / 1000)} s`);
  }
  return report(count);
}

/** Writes an input where a person finds it. */
function keep(input: Buffer): string {
  const path = join(tmpdir(), `event-log-${process.pid}.bin`);
  writeFileSync(path, input);
  return path;
}
