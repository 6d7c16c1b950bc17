/** Bytes, and a view of the same memory, which reads several of them at once. */
export type BytesView = { readonly bytes: Buffer; readonly data: DataView };

export const viewOf = (memory: ArrayBufferLike): BytesView => ({
  bytes: Buffer.from(memory),
  data: new DataView(memory),
});
