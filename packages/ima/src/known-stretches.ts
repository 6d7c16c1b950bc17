/** Lines that are all known, and what they make of PCR 10. */
export type Stretch = {
  readonly bytes: Uint8Array;
  readonly entryCount: number;
  readonly after: Buffer;
  /** The first word of PCR 10 after each entry. */
  readonly values: Uint32Array;
};

const LONGEST = 32 * 1024 * 1024;

/**
 * Stretches of lists by the value of PCR 10 before them. Where two machines measured the same from the start, comparing bytes
 * takes the place of replay. Keeps those used last; only lists from their first entry on bring new ones, and of these a machine
 * shows one after each reset of its TPM, so that none can drive out what the others use by asking for more and more.
 */
export class KnownStretches {
  readonly #byPcr = new Map<string, Stretch>();
  readonly #longest: number;
  #bytes = 0;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /**
   * The stretch that begins at `at` of `list`, where PCR 10 is `running`. Not one in which `quoted` might be met: the first
   * match counts, so it has to be looked for entry by entry.
   */
  find(running: Buffer, list: Uint8Array, at: number, quoted: Uint8Array): Stretch | undefined {
    const key = running.toString('latin1');
    const stretch = this.#byPcr.get(key);
    if (stretch === undefined || at + stretch.bytes.length > list.length) return undefined;
    if (Buffer.compare(stretch.bytes, list.subarray(at, at + stretch.bytes.length)) !== 0) return undefined;
    if (stretch.values.includes(Buffer.from(quoted).readUInt32BE())) return undefined;
    this.#byPcr.delete(key);
    this.#byPcr.set(key, stretch);
    return stretch;
  }

  add(before: Buffer, { bytes, entryCount, after, values }: Stretch): void {
    const key = before.toString('latin1');
    this.#forget(key);
    this.#byPcr.set(key, {
      bytes: Uint8Array.from(bytes),
      entryCount,
      after: Buffer.from(after),
      values: values.slice(),
    });
    this.#bytes += bytes.length;
    for (const [oldest] of this.#byPcr) {
      if (this.#bytes <= this.#longest) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    this.#bytes -= this.#byPcr.get(key)?.bytes.length ?? 0;
    this.#byPcr.delete(key);
  }
}
