/** Lines that are all known, and what they make of PCR 10. */
export type Stretch = {
  readonly bytes: Uint8Array;
  readonly entryCount: number;
  readonly after: Buffer;
  /** The first word of PCR 10 after each entry. */
  readonly values: Uint32Array;
};

const LONGEST = 32 * 1024 * 1024;
/** Starts that are remembered, 512 entries each. */
const MOST_STARTS = 4096;

/**
 * Stretches of lists by the value of PCR 10 before them. Where two machines measured the same from the start, comparing bytes
 * takes the place of replay. A stretch is kept when it comes for the second time; most lists have none of another's. Keeps
 * those used last; only lists from their first entry on bring new ones, and of these a machine
 * shows one after each reset of its TPM, so that none can drive out what the others use by asking for more and more.
 */
export class KnownStretches {
  readonly #byPcr = new Map<string, Stretch>();
  /** Values of PCR 10 before and after stretches that came once. */
  readonly #seen = new Set<string>();
  readonly #longest: number;
  #bytes = 0;

  constructor(longest = LONGEST) {
    this.#longest = longest;
  }

  /**
   * The stretch with which `list` begins, where PCR 10 is `running`. Not one in which `quoted` might be met: the first
   * match counts, so it has to be looked for entry by entry.
   */
  find(running: Buffer, list: Uint8Array, quoted: Uint8Array): Stretch | undefined {
    const key = running.toString('latin1');
    const stretch = this.#byPcr.get(key);
    if (stretch === undefined || stretch.bytes.length > list.length) return undefined;
    if (Buffer.compare(stretch.bytes, list.subarray(0, stretch.bytes.length)) !== 0) return undefined;
    if (stretch.values.includes(Buffer.from(quoted).readUInt32BE())) return undefined;
    this.#byPcr.delete(key);
    this.#byPcr.set(key, stretch);
    return stretch;
  }

  /** Notes a stretch between these values of PCR 10; whether it came before and is to be kept. */
  comesAgain(before: Buffer, after: Buffer): boolean {
    const both = before.toString('latin1') + after.toString('latin1');
    if (this.#seen.delete(both)) return true;
    this.#seen.add(both);
    const [oldest = ''] = this.#seen;
    if (this.#seen.size > MOST_STARTS) this.#seen.delete(oldest);
    return false;
  }

  keep(before: Buffer, { bytes, entryCount, after, values }: Stretch): void {
    const key = before.toString('latin1');
    this.#forget(key);
    this.#byPcr.set(key, { bytes: new Uint8Array(bytes), entryCount, after, values });
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
