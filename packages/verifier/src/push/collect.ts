import type { PushProblem } from '@keylime/api/push-document';
import { CollectedAttributes, CollectedImaLog, CollectedQuote, CollectedUefiLog } from '@keylime/api/push-evidence';
import { parseBinary, parseBySchema } from '@keylime/api/push-value';
import { DecodeError, decode } from '@keylime/core/codec';
import type { Json } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { HASH_IDS } from '@keylime/tpm/algorithms';
import { onlySelection, PcrValues } from '@keylime/tpm/pcr-blob';
import { encryptionAlgorithm, type TpmtPublic } from '@keylime/tpm/public';
import { encodeQuote } from '@keylime/tpm/quote';
import type { Collected } from './attestation.ts';
import { type Chosen, requestedEvidence } from './negotiate.ts';

type Refusal = Parsed<never, PushProblem> & { readonly ok: false };

/** [compat] The existing verifier calls `evidence_collected` so. */
const refuse = (pointer: string, detail: string): Refusal =>
  bad({
    status: 422,
    code: 'invalid_resource_data',
    detail: `Attribute 'evidence' ${detail}`,
    pointer: `/data/attributes/evidence${pointer}`,
  });

/**
 * Checks the form of evidence (05 section 6.3 of the reference): what was asked for, in that order, each readable, with the
 * chosen PCRs and no entries left out. `body` is the evidence as an agent that is polled would answer it, so that all evidence
 * is judged in one way. Nothing of it is verified yet.
 */
export function collectEvidence(
  attributes: { readonly [name: string]: Json },
  chosen: Chosen,
  ak: TpmtPublic,
): Parsed<{ readonly collected: Collected; readonly body: Buffer }, PushProblem> {
  const parsed = parseBySchema(CollectedAttributes, attributes);
  if (!parsed.ok) return refuse(parsed.problem.pointer.replace(/^\/evidence_collected/, ''), parsed.problem.problem);
  const items = parsed.value.evidence_collected;
  const wanted = requestedEvidence(chosen);
  const name = (one: { readonly evidence_class: string; readonly evidence_type: string }) =>
    `${one.evidence_class} ${one.evidence_type}`;
  if (items.map(name).join() !== wanted.map(name).join()) {
    return refuse('', `must be what was requested, in this order: ${wanted.map(name).join(', ')}`);
  }
  const results: Record<string, Json> = {
    hash_alg: chosen.hash,
    enc_alg: encryptionAlgorithm(ak),
    sign_alg: chosen.scheme,
    boottime: chosen.bootTime,
  };
  let collected: Collected | undefined;
  for (const [index, item] of items.entries()) {
    switch (item.evidence_type) {
      case 'tpm_quote': {
        const quote = quoteOf(item, `/${index}`, chosen);
        if (!quote.ok) return quote;
        results.quote = quote.value.text;
        collected = { ...collected, ...quote.value.collected };
        break;
      }
      case 'uefi_log': {
        const log = parseBySchema(CollectedUefiLog, item);
        if (!log.ok) return refuse(`/${index}${log.problem.pointer}`, log.problem.problem);
        const bytes = parseBinary(log.value.data.entries);
        if (bytes === undefined) return refuse(`/${index}/data/entries`, 'must be base64');
        results.mb_measurement_list = bytes.toString('base64');
        collected = collected && { ...collected, uefiLogBytes: bytes.length };
        break;
      }
      case 'ima_log': {
        const log = parseBySchema(CollectedImaLog, item);
        if (!log.ok) return refuse(`/${index}${log.problem.pointer}`, log.problem.problem);
        const { startingEntry = 0, offeredEntries = 0 } = chosen.imaLog ?? {};
        const count = countLines(log.value.data.entries);
        if (count < offeredEntries - startingEntry) {
          const least = offeredEntries - startingEntry;
          return refuse(`/${index}/data/entry_count`, `must be at least ${least}: ${count} entries were sent`);
        }
        results.ima_measurement_list = withFinalNewline(log.value.data.entries);
        results.ima_measurement_list_entry = startingEntry;
        collected = collected && { ...collected, imaLogEntries: count };
        break;
      }
    }
  }
  if (collected === undefined) return refuse('', 'must contain a quote');
  return good({ collected, body: Buffer.from(JSON.stringify({ results })) });
}

/** Whether the quote is the one that was taken: without it, the evidence is another one, however much there is of it. */
export function repeatsQuote(attributes: { readonly [name: string]: Json }, taken: Collected | undefined): boolean {
  const [first] = Array.isArray(attributes.evidence_collected) ? attributes.evidence_collected : [];
  const quote = parseBySchema(CollectedQuote, first);
  if (!quote.ok || taken === undefined) return false;
  const { message, signature } = quote.value.data;
  const isSame = (text: string, base64: string) => parseBinary(text)?.toString('base64') === base64;
  return isSame(message, taken.message) && isSame(signature, taken.signature);
}

function quoteOf(
  item: unknown,
  pointer: string,
  { hash, mask }: Chosen,
): Parsed<{ readonly text: string; readonly collected: Collected }, PushProblem> {
  const quote = parseBySchema(CollectedQuote, item);
  if (!quote.ok) return refuse(`${pointer}${quote.problem.pointer}`, quote.problem.problem);
  const bytes: { [name: string]: Buffer } = {};
  for (const field of ['message', 'signature', 'subject_data'] as const) {
    const read = parseBinary(quote.value.data[field]);
    if (read === undefined || read.length === 0) return refuse(`${pointer}/data/${field}`, 'must be base64, not empty');
    bytes[field] = read;
  }
  const {
    message: attest = Buffer.alloc(0),
    signature = Buffer.alloc(0),
    subject_data: pcrBlob = Buffer.alloc(0),
  } = bytes;
  const where = `${pointer}/data/subject_data`;
  try {
    const selection = onlySelection(decode(PcrValues, pcrBlob));
    if (selection === undefined || selection.hash !== HASH_IDS[hash] || (mask & ~selection.mask) !== 0) {
      return refuse(where, `must contain at least the PCRs requested, of bank ${hash} and no other`);
    }
  } catch (error) {
    if (error instanceof DecodeError) return refuse(where, `must be PCR values: ${error.message}`);
    throw error;
  }
  const [message, signatureText, subjectData] = [attest, signature, pcrBlob].map((one) => one.toString('base64'));
  return good({
    text: encodeQuote({ attest, signature, pcrBlob }),
    collected: { message: message ?? '', signature: signatureText ?? '', subjectData: subjectData ?? '' },
  });
}

/** Lines, whether or not the last one is ended: existing agents leave its line feed out. */
function countLines(text: string): number {
  let count = text === '' || text.endsWith('\n') ? 0 : 1;
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) count++;
  return count;
}

const withFinalNewline = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);
