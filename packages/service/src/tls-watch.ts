import { X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Log } from './log.ts';

const CHECK_EVERY_MS = 10_000;
const RENEW_EVERY_MS = 3_600_000;
const WARN_BEFORE_MS = 30 * 86_400_000;
const WARN_EVERY_MS = 86_400_000;

export type TlsWatch = {
  /** Looks at the files now; uses what changed. Never throws. */
  readonly check: () => Promise<void>;
  /** Renews what is old, and uses it. Never throws. */
  readonly renew: () => Promise<void>;
  readonly close: () => void;
};

/**
 * Lets a running service use certificates that were renewed, by itself every hour (`renew`) or by somebody else (`files`,
 * looked at every ten seconds), without a restart. What cannot be used is told, and what was used before stays in use: files
 * that are being replaced one by one do not fit together for a moment. A certificate that nobody renews is warned of.
 */
export function watchTls<T>(parts: {
  /** In use since the start. */
  readonly current: T;
  readonly files: readonly string[];
  readonly renew?: (() => Promise<unknown>) | undefined;
  /** Reads everything anew; throws if it cannot be used together. */
  readonly load: () => Promise<T>;
  readonly apply: (material: T) => void;
  /** PEM of the certificates that the service shows. */
  readonly shown: (material: T) => readonly string[];
  readonly log: Log;
  readonly now?: () => number;
}): TlsWatch {
  const { files, load, apply, shown, log, now = Date.now } = parts;
  let { current } = parts;
  let seen: string | undefined;
  let complaint = '';
  let warnedAt = Number.NEGATIVE_INFINITY;
  let work: Promise<void> = Promise.resolve();

  /** One after the other: a renewal and a look at its files must not meet. */
  const inTurn = (job: () => Promise<void>): Promise<void> => {
    work = work.then(job);
    return work;
  };
  const complain = (event: string, error: unknown): void => {
    const text = error instanceof Error ? error.message : String(error);
    if (text !== complaint) log.error(event, { error });
    complaint = text;
  };

  const check = async (): Promise<void> => {
    warnOfEnd();
    const version = await versionOf(files);
    if (version === seen) return;
    try {
      const fresh = await load();
      if (!isDeepStrictEqual(fresh, current)) {
        apply(fresh);
        current = fresh;
        log.info('Certificates have changed and are in use now', {
          notAfter: new Date(firstToEnd(shown(fresh)).end).toISOString(),
        });
      }
      seen = version;
      complaint = '';
    } catch (error) {
      complain('Changed certificates cannot be used: those from before stay in use', error);
    }
  };
  const renew = async (): Promise<void> => {
    try {
      await parts.renew?.();
    } catch (error) {
      complain('Certificates cannot be renewed', error);
    }
    await check();
  };

  function warnOfEnd(): void {
    const { end, warnFrom } = firstToEnd(shown(current));
    if (now() < warnFrom || now() - warnedAt < WARN_EVERY_MS) return;
    warnedAt = now();
    const notAfter = new Date(end).toISOString();
    if (end > now()) log.warn('A certificate ends soon and has to be replaced', { notAfter });
    else log.error('A certificate has ended: peers refuse it', { notAfter });
  }

  const timers = [
    setInterval(() => void inTurn(check), CHECK_EVERY_MS),
    setInterval(() => void inTurn(renew), RENEW_EVERY_MS),
  ];
  for (const timer of timers) timer.unref();
  return {
    check: () => inTurn(check),
    renew: () => inTurn(renew),
    close() {
      for (const timer of timers) clearInterval(timer);
    },
  };
}

/** Changes when one of the files is written, replaced or deleted. */
async function versionOf(files: readonly string[]): Promise<string> {
  const found = await Promise.all(files.map((file) => stat(file, { bigint: true }).catch(() => undefined)));
  return found.map((one) => (one ? `${one.ino} ${one.mtimeNs} ${one.size}` : 'none')).join('\n');
}

/** When the first of the certificates ends, and from when on that is worth a warning: 30 days, or a third of a short life. */
function firstToEnd(pems: readonly string[]): { readonly end: number; readonly warnFrom: number } {
  const ends = pems.map((pem) => {
    const { validFromDate, validToDate } = new X509Certificate(pem);
    const end = validToDate.getTime();
    return { end, warnFrom: end - Math.min(WARN_BEFORE_MS, (end - validFromDate.getTime()) / 3) };
  });
  return ends.reduce((first, next) => (next.end < first.end ? next : first));
}
