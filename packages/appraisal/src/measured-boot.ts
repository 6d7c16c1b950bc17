import { hash } from 'node:crypto';
import { parseBase64 } from '@keylime/core/base64';
import { LARGEST_LOG } from '@keylime/event-log/decode';
import type { VerifiedQuote } from '@keylime/tpm/quote';
import {
  type BootFailure,
  type BootQuestion,
  type BootReference,
  type BootVerdict,
  policyFailed,
} from './boot-verdict.ts';

/** What is expected of a boot. Plain data. */
export type BootExpectation = {
  readonly reference: BootReference;
  /** The PCRs that must be quoted and that the log must lead to; at least one. */
  readonly pcrs: readonly number[];
  /** Whether the policy is asked at every attestation, or once for every boot. */
  readonly evaluate: 'once' | 'always';
  /** What `judgeBoot` answered to the question of this round. */
  readonly verdict?: BootVerdict | undefined;
};

/** What was found, under the key to remember it by; or what has to be asked first. */
export type BootFinding =
  | { readonly key: string | undefined; readonly failures: readonly BootFailure[] }
  | { readonly question: BootQuestion };

/** SHA-256 by which one reference state of one policy is told from others. */
export const referenceChecksum = (rules: string, text: string | undefined): string =>
  hash('sha256', JSON.stringify([rules, text ?? null]), 'hex');

/**
 * Judges a boot as far as that can be done at once: without a log, with PCRs that were not quoted, with a verdict that is
 * there already, or as the boot that was judged before, `known` its key. Otherwise the finding is a question, for
 * `judgeBoot`. `log` is base64 as it came.
 */
export function appraiseBoot(
  log: string | undefined,
  quote: VerifiedQuote,
  { reference, pcrs, evaluate, verdict }: BootExpectation,
  known: string | undefined,
): BootFinding {
  const refused = (...failures: readonly BootFailure[]): BootFinding => ({ key: undefined, failures });
  if (log === undefined) return refused({ kind: 'measured_boot_log_missing', pcrs });
  // No PCR to compare is no comparison.
  if (pcrs.length === 0) return refused(policyFailed(reference, 'it names no PCR'));
  const missing = pcrs.filter((pcr) => !quote.pcrs.has(pcr));
  if (missing.length > 0) {
    return refused(...missing.map((pcr): BootFailure => ({ kind: 'measured_boot_pcr_not_quoted', pcr })));
  }
  const values = pcrs.map((pcr): [number, string] => [pcr, quote.pcrs.get(pcr)?.toString('hex') ?? '']);
  const { bank, clockInfo } = quote;
  const { checksum, edition } = reference;
  const boot = [hash('sha256', log, 'hex'), bank, values, checksum, edition, clockInfo.resetCount];
  const key = hash('sha256', JSON.stringify(boot), 'hex');
  if (verdict?.key === key) return { key, failures: verdict.failures };
  if (evaluate === 'once' && known === key) return { key, failures: [] };

  if (log.length > LARGEST_BASE64) return refused(TOO_LARGE);
  const bytes = parseBase64(log);
  if (bytes === undefined) return refused({ kind: 'measured_boot_log_not_base64' });
  return { question: { key, log: bytes, bank, pcrs: values, reference, evaluate } };
}

const LARGEST_BASE64 = 4 * Math.ceil(LARGEST_LOG / 3);

const TOO_LARGE: BootFailure = {
  kind: 'measured_boot_log_malformed',
  problem: { kind: 'log_too_large', index: 0, offset: 0, field: '', problem: `over ${LARGEST_LOG} bytes` },
};
