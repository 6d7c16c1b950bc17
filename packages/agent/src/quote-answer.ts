import { Readable } from 'node:stream';
import type { QuoteResults } from '@keylime/api/agent/quote';
import { success } from '@keylime/api/envelope';
import type { ListPart } from './measurement-list.ts';

/** The answer to a request for a quote: a text, or a stream of one where the measurement list is long. */
export type QuoteAnswer = string | Readable;

/**
 * The JSON of a quote with the part of the measurement list that was read after it. A long list is written piece by piece,
 * so that its size in memory does not matter and a slow reader holds up nobody.
 */
export function quoteAnswer(quote: QuoteResults, list: ListPart | undefined): QuoteAnswer {
  if (list === undefined) return JSON.stringify(success(quote));
  const { firstEntry, content } = list;
  const results = { ...quote, ima_measurement_list_entry: firstEntry };
  if (content.kind === 'text') return JSON.stringify(success({ ...results, ima_measurement_list: content.text }));

  const text = JSON.stringify(success({ ...results, ima_measurement_list: '' }));
  const cut = text.length - '"}}'.length;
  const stream = Readable.from(inQuotes(text.slice(0, cut), content.pieces, text.slice(cut)));
  stream.once('close', content.release);
  return stream;
}

function* inQuotes(head: string, pieces: Iterable<string>, tail: string): Generator<string> {
  yield head;
  for (const piece of pieces) if (piece !== '') yield JSON.stringify(piece).slice(1, -1);
  yield tail;
}
