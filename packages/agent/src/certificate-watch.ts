import type { Log } from '@keylime/service/log';

const WARN_BEFORE_MS = 30 * 86_400_000;
const CHECK_EVERY_MS = 3_600_000;
const WARN_EVERY_MS = 86_400_000;

/**
 * Looks every hour whether the server's certificate still holds. Peers pin it, so it is used to its end, with a warning a
 * day in the last 30 days; once it has expired nobody accepts it any more, and `renew` puts another one in its place and
 * tells until when that one holds.
 */
export function watchCertificate(options: {
  readonly notAfter: Date;
  readonly renew: () => Promise<Date>;
  readonly log: Log;
  readonly now?: () => number;
}): { readonly check: () => Promise<void>; readonly close: () => void } {
  const { renew, log, now = Date.now } = options;
  let { notAfter } = options;
  let warnedAt = Number.NEGATIVE_INFINITY;

  const check = async () => {
    const leftMs = notAfter.getTime() - now();
    if (leftMs > WARN_BEFORE_MS) return;
    if (leftMs > 0) {
      if (now() - warnedAt < WARN_EVERY_MS) return;
      warnedAt = now();
      const event =
        "The server's certificate ends soon: restart the agent to have it renewed, then enrol the agent again";
      return log.warn(event, { notAfter: notAfter.toISOString() });
    }
    try {
      notAfter = await renew();
      const event =
        "The server's certificate had ended and was renewed: enrol the agent again, the verifier pins the old one";
      log.warn(event, { notAfter: notAfter.toISOString() });
    } catch (cause) {
      log.error("The server's certificate has ended and cannot be renewed", { reason: cause });
    }
  };
  const timer = setInterval(() => void check(), CHECK_EVERY_MS);
  timer.unref();
  return { check, close: () => clearInterval(timer) };
}
