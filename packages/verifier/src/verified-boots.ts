import { type BootQuestion, verifyBoot } from '@keylime/appraisal/boot-verdict';
import type { EventLogVerification } from '@keylime/event-log/verify';

type Verified = Extract<EventLogVerification, { readonly ok: true }>;
type KnownBoot = { readonly log: Uint8Array; readonly verified: Verified };

/**
 * `verifyBoot` that decodes and replays the log of a boot once, however often the boot is judged. It remembers logs that lead
 * to their PCRs, up to `mostBytes` of them, and forgets first what was not asked for longest. What it knows counts for the
 * very same bytes and PCR values only. A policy can change nothing for those that come after it: objects are frozen, and
 * bytes and PCR values are compared with those that came this time.
 */
export function rememberVerifiedBoots(mostBytes: number, verify = verifyBoot): typeof verifyBoot {
  const known = new Map<string, KnownBoot>();
  let bytes = 0;

  function forget(key: string): void {
    bytes -= known.get(key)?.log.length ?? 0;
    known.delete(key);
  }
  function remember(key: string, boot: KnownBoot): void {
    known.set(key, boot);
    bytes += boot.log.length;
    for (const oldest of known.keys()) {
      if (bytes <= mostBytes) break;
      forget(oldest);
    }
  }
  return (question) => {
    const { key, log, evaluate } = question;
    if (evaluate === 'once') return verify(question);
    const before = known.get(key);
    forget(key);
    if (before !== undefined && isOf(question, before)) {
      remember(key, before);
      return before.verified;
    }
    const verified = verify(question);
    if (verified.ok) remember(key, { log, verified: frozen(verified) });
    return verified;
  };
}

const isOf = ({ log, bank, pcrs }: BootQuestion, { log: bytes, verified }: KnownBoot): boolean =>
  Buffer.compare(log, bytes) === 0 &&
  verified.log.bank === bank &&
  verified.log.pcrs.size === pcrs.length &&
  pcrs.every(([pcr, value]) => verified.log.pcrs.get(pcr)?.toString('hex') === value);

/** Freezes objects and lists, and what is in them; bytes and maps cannot be. */
function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const member of Object.values(value)) frozen(member);
  return value;
}
