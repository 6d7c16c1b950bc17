import { fileURLToPath } from 'node:url';
import { loadCaConfig, loadVerifierConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { startVerifier } from '@keylime/verifier/start';

/** What a verifier under measurement says of itself. Times in milliseconds. */
export type VerifierSample = {
  readonly attestations: number;
  readonly otherRounds: number;
  readonly statements: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Between the ends of two rounds with one agent, since the last sample; sorted. */
  readonly periodsMs: readonly number[];
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { config } = loadVerifierConfig({ env: process.env });
  const settings = { ...config, port: 0 };
  const log = openLog({ name: 'keylime.verifier', level: 'warning', destination: 2 });
  let attestations = 0;
  let otherRounds = 0;
  let statements = 0;
  let periods: number[] = [];
  const last = new Map<string, number>();
  const watched = process.env.BENCH_WATCH === undefined ? undefined : new RegExp(process.env.BENCH_WATCH);
  const verifier = await startVerifier(settings, loadCaConfig({ env: process.env }).config, log, {
    onStatement: () => {
      statements++;
    },
    onRound: (agent, outcome) => {
      if (outcome === 'affirming') attestations++;
      else otherRounds++;
      if (watched !== undefined && !watched.test(agent)) return;
      const now = performance.now();
      const before = last.get(agent);
      if (before !== undefined) periods.push(now - before);
      last.set(agent, now);
    },
  });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    const sample: VerifierSample = {
      attestations,
      otherRounds,
      statements,
      cpuSeconds: (user + system) / 1e6,
      residentBytes: process.memoryUsage.rss(),
      periodsMs: periods.sort((a, b) => a - b),
    };
    periods = [];
    process.send?.(sample);
  });
  process.once('disconnect', () => process.exit(0));
  process.send?.({ port: verifier.address.port });
}
