/**
 * The same bytes in memory of their own. Small buffers are cut from shared slabs of many kilobytes, and a view keeps all of
 * its slab: what is kept for long, once per agent, is copied out first.
 */
export function ownCopy(bytes: Uint8Array): Buffer {
  const copy = Buffer.alloc(bytes.length);
  copy.set(bytes);
  return copy;
}
