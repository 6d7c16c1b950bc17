/** How far the quote of a round reached into the list that came with it: `matched` of `length` entries. */
export type QuoteProgress = { readonly matched: number; readonly length: number };

/**
 * Whether the quotes keep up with the list. The list is read after the quote and may be longer, but entries that a round
 * left uncertified must be certified in the next one: a PCR that stands still while the list grows was not extended by the
 * kernel. `previous` is absent after a reset, and then all is well.
 */
export function makesProgress(previous: QuoteProgress | undefined, now: QuoteProgress): boolean {
  if (previous === undefined || now.matched === now.length) return true;
  const lag = previous.length - previous.matched;
  return lag <= 0 || now.matched >= lag;
}
