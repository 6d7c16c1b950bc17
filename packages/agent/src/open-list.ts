import { closeSync, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';

/** How much of the end of the list is kept in memory: what a verifier that keeps up asks for is always there. */
const WINDOW_BYTES = 1024 * 1024;
const READ_BYTES = 64 * 1024;
/** Every so many entries the offset is remembered. */
const CHECKPOINT_ENTRIES = 256;
/** So many bytes before the end tell whether a file that did not shrink is still the same list. */
const FINGERPRINT_BYTES = 64;
const NEWLINE = 0x0a;

/**
 * A measurement list file while it is open: append-only bytes, lines counted as entries. The file is only ever read on
 * from where the last read ended, because going back makes the kernel print its list again from the start (seq_file).
 */
export class OpenList {
  readonly #path: string;
  readonly #fd: number;
  /** Offset of entry 0, 256, 512, ... */
  readonly #checkpoints: number[] = [0];
  /** The last bytes up to `scannedTo`, in pieces. */
  readonly #window: { readonly offset: number; readonly bytes: Buffer }[] = [];
  readonly #buffer = Buffer.allocUnsafe(READ_BYTES);
  #readers = 0;
  #retired = false;
  #hasSize = false;
  /** Complete lines. */
  entries = 0;
  /** Where the line after the last complete one begins. */
  endOffset = 0;
  /** How far the file was read; more than `endOffset` if its last line has no newline. */
  scannedTo = 0;

  /** @throws an `Error` with a system `code` if the file cannot be opened. */
  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'r');
  }

  /**
   * Whether the path now leads to another file, or the file was cut or rewritten. The kernel's own lists only grow, and
   * have no size; a path that cannot be looked at any more (privileges were dropped) says nothing.
   */
  isReplaced(): boolean {
    const open = fstatSync(this.#fd);
    const named = statIfAllowed(this.#path);
    if (named !== undefined && (named.ino !== open.ino || named.dev !== open.dev)) return true;
    if (!this.#hasSize) return false;
    if (open.size < this.scannedTo) return true;
    const expected = this.#window.at(-1)?.bytes.subarray(-FINGERPRINT_BYTES);
    return expected !== undefined && !this.#readAt(this.scannedTo - expected.length, expected.length).equals(expected);
  }

  /** Reads on to the end of the file, `yielding` after each piece. */
  async scan(yielding: () => Promise<void>): Promise<void> {
    for (let bytes = this.#readAt(this.scannedTo, READ_BYTES); bytes.length > 0; ) {
      this.#append(Buffer.from(bytes));
      bytes = this.#readAt(this.scannedTo, READ_BYTES);
      if (bytes.length > 0) await yielding();
    }
    this.#hasSize ||= fstatSync(this.#fd).size > 0;
  }

  /** Where entry `index` begins; `index` is at most `entries`. */
  offsetOf(index: number): number {
    if (index === this.entries) return this.endOffset;
    const checkpoint = Math.floor(index / CHECKPOINT_ENTRIES);
    let offset = this.#checkpoints[checkpoint] ?? 0;
    let lines = index - checkpoint * CHECKPOINT_ENTRIES;
    for (const bytes of lines === 0 ? [] : this.bytes(offset, this.endOffset)) {
      let at = 0;
      for (; lines > 0; lines--) {
        const newline = bytes.indexOf(NEWLINE, at);
        if (newline < 0) break;
        at = newline + 1;
      }
      if (lines === 0) return offset + at;
      offset += bytes.length;
    }
    return offset;
  }

  /** Whether everything from `offset` on is in memory. */
  isInWindow(offset: number): boolean {
    return offset >= (this.#window[0]?.offset ?? this.scannedTo);
  }

  /** The bytes from `from` up to `to`, in pieces; they end early if the file was cut meanwhile. */
  *bytes(from: number, to: number): Generator<Buffer> {
    if (this.isInWindow(from)) {
      const first = this.#window.findLastIndex(({ offset }) => offset <= from);
      for (const { offset, bytes } of this.#window.slice(Math.max(0, first))) {
        if (offset + bytes.length > from && offset < to) yield bytes.subarray(Math.max(0, from - offset), to - offset);
      }
      return;
    }
    for (let at = from; at < to; ) {
      const bytes = Buffer.from(this.#readAt(at, Math.min(READ_BYTES, to - at)));
      if (bytes.length === 0) return;
      yield bytes;
      at += bytes.length;
    }
  }

  /** Keeps the file open until `release`. */
  retain(): void {
    this.#readers++;
  }

  release(): void {
    this.#readers--;
    this.#closeIfUnused();
  }

  /** Closes the file as soon as nobody reads it any more. */
  retire(): void {
    this.#retired = true;
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if (this.#retired && this.#readers === 0) closeSync(this.#fd);
  }

  /** A view of the read buffer. */
  #readAt(offset: number, size: number): Buffer {
    return this.#buffer.subarray(0, readSync(this.#fd, this.#buffer, 0, size, offset));
  }

  #append(bytes: Buffer): void {
    const offset = this.scannedTo;
    for (let newline = bytes.indexOf(NEWLINE); newline >= 0; newline = bytes.indexOf(NEWLINE, newline + 1)) {
      this.endOffset = offset + newline + 1;
      this.entries++;
      if (this.entries % CHECKPOINT_ENTRIES === 0) this.#checkpoints.push(this.endOffset);
    }
    this.scannedTo = offset + bytes.length;
    this.#window.push({ offset, bytes });
    while (this.#window.length > 1 && this.scannedTo - (this.#window[1]?.offset ?? 0) >= WINDOW_BYTES)
      this.#window.shift();
  }
}

function statIfAllowed(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
