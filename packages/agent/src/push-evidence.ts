import { IMA_LOG_FORMAT, UEFI_LOG_FORMAT } from '@keylime/api/push-capabilities';
import type { CollectedEvidence } from '@keylime/api/push-evidence';
import type { LogParameters, QuoteParameters, RequestedEvidence } from '@keylime/api/push-parameters';
import { parseBase64 } from '@keylime/core/base64';
import { parseQuote } from '@keylime/tpm/quote';
import type { PushAttester } from './attester.ts';
import type { ListPart, MeasurementList } from './measurement-list.ts';
import type { EvidenceSources } from './push-capabilities.ts';
import { PushError } from './push-error.ts';

/**
 * What was asked for, in that order (spec 05 section 6.2). [MUST] The quote is made before a log is read, whatever the order:
 * a log read before it could lack entries that the quote covers.
 * @throws PushError `evidence_unavailable`, `answer_malformed`; what TPM and lists throw.
 */
export async function collectEvidence(
  requested: readonly RequestedEvidence[],
  sources: EvidenceSources,
): Promise<readonly CollectedEvidence[]> {
  const collected: (CollectedEvidence | undefined)[] = requested.map(() => undefined);
  const isQuote = ({ evidence_type: type }: RequestedEvidence) => type === 'tpm_quote';
  for (const quotesNow of [true, false]) {
    for (const [index, one] of requested.entries()) {
      if (isQuote(one) === quotesNow) collected[index] = await collect(one, sources);
    }
  }
  return collected.filter((one) => one !== undefined);
}

async function collect(one: RequestedEvidence, sources: EvidenceSources): Promise<CollectedEvidence> {
  if (one.evidence_type === 'tpm_quote') return quote(one.chosen_parameters, sources.attester);
  return one.evidence_type === 'uefi_log'
    ? uefiLog(one.chosen_parameters ?? {}, sources)
    : imaLog(one.chosen_parameters ?? {}, sources.measurementList);
}

async function quote(chosen: QuoteParameters, attester: PushAttester): Promise<CollectedEvidence> {
  const { signature_scheme: scheme, hash_algorithm: hash, selected_subjects: subjects } = chosen;
  if (scheme !== attester.signAlg || hash !== attester.hashAlg) {
    const own = `${attester.signAlg} and ${attester.hashAlg}`;
    throw unavailable(`The verifier wants a quote with ${scheme} and ${hash}; the AK signs with ${own}.`);
  }
  const pcrs = subjects[hash] ?? [];
  const nonce = parseBase64(chosen.challenge);
  const mask = pcrs.reduce((bits, pcr) => (bits | (1 << pcr)) >>> 0, 0);
  if (pcrs.length === 0 || mask > 0xffffff || nonce === undefined) {
    throw new PushError(
      'answer_malformed',
      `The verifier asks for a quote without a challenge, or without PCRs of ${hash}.`,
    );
  }
  // PCR 16 is left alone: nothing is bound to it in push attestation, and others on this machine may use it.
  const parts = parseQuote(await attester.quote({ nonce, mask }));
  if ('kind' in parts) throw new TypeError(parts.problem);
  return {
    evidence_class: 'certification',
    evidence_type: 'tpm_quote',
    data: {
      message: parts.attest.toString('base64'),
      signature: parts.signature.toString('base64'),
      subject_data: parts.pcrBlob.toString('base64'),
    },
  };
}

function uefiLog({ format }: LogParameters, { bootLog }: EvidenceSources): CollectedEvidence {
  refuseOtherFormat(format, UEFI_LOG_FORMAT);
  const entries = bootLog.read()?.toString('base64') ?? '';
  return { evidence_class: 'log', evidence_type: 'uefi_log', data: { entries } };
}

async function imaLog(
  { format, starting_offset: offset, entry_count: limit }: LogParameters,
  list: Pick<MeasurementList, 'readFrom'>,
): Promise<CollectedEvidence> {
  refuseOtherFormat(format, IMA_LOG_FORMAT);
  const from = offset ?? 0;
  const part = await list.readFrom(from);
  const text = part === undefined ? '' : wholeText(part);
  // [MUST] Entries under other numbers than those asked for would be taken for a list that was tampered with.
  if (part !== undefined && part.firstEntry !== from) {
    throw unavailable(
      part.firstEntry > from
        ? `The verifier asks for the measurement list from entry ${from} on, and the kernel has removed those before ${part.firstEntry}: reboot the machine.`
        : `The verifier asks for the measurement list from entry ${from} on, and it is shorter now.`,
    );
  }
  const { end, count } = wholeLines(text, limit ?? Number.POSITIVE_INFINITY);
  const data = { entries: text.slice(0, end), entry_count: count };
  return { evidence_class: 'log', evidence_type: 'ima_log', data };
}

function wholeText({ content }: ListPart): string {
  if (content.kind === 'text') return content.text;
  try {
    return [...content.pieces].join('');
  } finally {
    content.release();
  }
}

/** How many lines of `text` end with a newline, `limit` at most, and where the last one ends: a half-written one waits. */
function wholeLines(text: string, limit: number): { readonly end: number; readonly count: number } {
  let [end, count] = [0, 0];
  while (count < limit) {
    const newline = text.indexOf('\n', end);
    if (newline < 0) break;
    end = newline + 1;
    count++;
  }
  return { end, count };
}

function refuseOtherFormat(format: string | null | undefined, own: string): void {
  if (typeof format === 'string' && format !== own) {
    throw unavailable(`The verifier wants a log as ${format}; this agent has it as ${own}.`);
  }
}

const unavailable = (message: string) => new PushError('evidence_unavailable', message);
