import { hash } from 'node:crypto';
import { digestSize, type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { hintData } from './coverage.ts';
import { type EventLog, LAST_PCR } from './event.ts';

/** Values of the PCRs of a bank that a log touches. */
export type ReplayedPcrs = ReadonlyMap<number, Buffer>;

/** The locality of the H-CRTM, which PCR 0 starts with where there is one. */
const HCRTM_LOCALITY = 4;

/**
 * What PCR `pcr` holds after a start of the machine, before anything extends it: ones for the PCRs of a dynamic launch,
 * else zeros, in PCR 0 with the locality that started the TPM (TCG PFP 1.06, 3.3.2; TPM 2.0 Part 1, 17.4).
 */
export function initialPcr(bank: HashAlgorithm, pcr: number, startupLocality = 0): Buffer {
  const value = Buffer.alloc(digestSize(bank), pcr >= 17 && pcr <= 22 ? 0xff : 0);
  if (pcr === 0) value[value.length - 1] = startupLocality;
  return value;
}

/**
 * The locality that started the TPM, as the log tells it: 4 with an H-CRTM, else that of an EV_NO_ACTION before the first
 * extend of PCR 0, else 0. Not measured; a wrong one gives another PCR 0.
 */
export function startupLocality(log: EventLog): number {
  let locality: number | undefined;
  let touched = false;
  for (const event of log.events) {
    if (event.type === 'EV_NO_ACTION') {
      if (touched || locality !== undefined) continue;
      const data = hintData(event);
      if (data.kind === 'startup_locality') ({ locality } = data);
    } else if (event.pcr === 0) {
      if (event.type === 'EV_EFI_HCRTM_EVENT') return HCRTM_LOCALITY;
      touched = true;
    }
  }
  return locality ?? 0;
}

/**
 * Extends the PCRs of `bank` with the log's digests, in the log's order. Only the PCRs that the log touches in this bank
 * are in the result; the others have the value of `initialPcr`. Records without a digest of the bank do not touch it, nor
 * does EV_NO_ACTION. Proves nothing before it is compared with a quote.
 */
export function replayBank(log: EventLog, bank: HashAlgorithm): ReplayedPcrs {
  const size = digestSize(bank);
  const algorithm = opensslName(bank);
  const locality = startupLocality(log);
  // Binary strings: a one-shot hash into a Buffer costs several times more than the hash.
  const running = new Map<number, string>();
  const input = Buffer.alloc(2 * size);
  for (const event of log.events) {
    const digest = event.digests.get(bank);
    if (digest === undefined || event.type === 'EV_NO_ACTION' || event.pcr > LAST_PCR) continue;
    input.write(running.get(event.pcr) ?? initialPcr(bank, event.pcr, locality).toString('latin1'), 0, 'latin1');
    input.write(digest, size, 'hex');
    running.set(event.pcr, hash(algorithm, input, 'binary'));
  }
  return new Map(Array.from(running, ([pcr, value]) => [pcr, Buffer.from(value, 'latin1')]));
}

/** `replayBank` of every bank of the log. */
export const replayEventLog = (log: EventLog): ReadonlyMap<HashAlgorithm, ReplayedPcrs> =>
  new Map(log.banks.map((bank) => [bank, replayBank(log, bank)]));
