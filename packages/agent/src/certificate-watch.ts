import { RENEW_BEFORE_MS } from '@keylime/pki/agent-certificate';
import type { Log } from '@keylime/service/log';

const CHECK_EVERY_MS = 3_600_000;
const WARN_EVERY_MS = 86_400_000;

/**
 * Has the server's certificate renewed 30 days before its end, and looks every hour until then whether the clock says that
 * it is time. `renew` puts the next certificate in place, if there is one, and tells until when the one in place holds: one
 * that somebody else issued only its issuer can replace, which a warning a day asks for.
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
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const leftMs = () => notAfter.getTime() - now();

  const check = async () => {
    if (leftMs() > RENEW_BEFORE_MS) return;
    try {
      notAfter = await renew();
    } catch (cause) {
      log.error("The server's certificate ends soon and cannot be renewed; it is tried again", { reason: cause });
      return;
    }
    if (leftMs() > RENEW_BEFORE_MS || now() - warnedAt < WARN_EVERY_MS) return;
    warnedAt = now();
    log.warn("The server's certificate ends soon, and the agent did not issue it: get another of its issuer", {
      notAfter: notAfter.toISOString(),
    });
  };
  const watch = (delayMs: number) => {
    timer = setTimeout(async () => {
      await check();
      if (!closed) watch(CHECK_EVERY_MS);
    }, delayMs).unref();
  };
  watch(Math.min(CHECK_EVERY_MS, Math.max(0, leftMs() - RENEW_BEFORE_MS)));
  return {
    check,
    close: () => {
      closed = true;
      clearTimeout(timer);
    },
  };
}
