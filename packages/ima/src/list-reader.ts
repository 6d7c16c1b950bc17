import { MEMORY } from './list-memory.ts';
import { decodeUtf8, encodeUtf8 } from './list-text.ts';
import type { Scratch } from './scratch.ts';

const NEWLINE = '\n'.charCodeAt(0);
const encoder = new TextEncoder();

/**
 * A list that passes through the window of a scratch in pieces, each as long as fits and with zeros behind it. Text becomes
 * bytes piece by piece: a whole copy of a long list would cost more than reading it does.
 */
export class ListReader {
  readonly #list: string | Uint8Array;
  readonly #scratch: Scratch;
  /** Of the window, in characters of a text: where it begins in the list, and how many it holds. */
  #from = 0;
  #length = 0;
  #size = 0;

  constructor(list: string | Uint8Array, scratch: Scratch) {
    // Where bytes are no UTF-8 the text is not well-formed (list-text.ts).
    this.#list = typeof list === 'string' && !list.isWellFormed() ? encodeUtf8(list) : list;
    this.#scratch = scratch;
  }

  get isAtEnd(): boolean {
    return this.#from >= this.#list.length;
  }

  /** Whether the list goes on behind the window. */
  get goesOn(): boolean {
    return this.#from + this.#length < this.#list.length;
  }

  /** Address behind the last byte of the window. */
  get end(): number {
    return MEMORY.window + this.#size;
  }

  /** What is in the window. */
  get bytes(): Uint8Array {
    return this.#scratch.bytes.subarray(MEMORY.window, this.end);
  }

  /** Fills the window with what comes next. */
  load(): void {
    const { bytes, window } = this.#scratch;
    if (typeof this.#list === 'string') {
      // A pair of surrogates that this cuts in two has no room in the window either.
      const next = this.#list.slice(this.#from, this.#from + MEMORY.windowBytes);
      const { read, written } = encoder.encodeInto(next, window);
      this.#length = read;
      this.#size = written;
    } else {
      const next = this.#list.subarray(this.#from, this.#from + MEMORY.windowBytes);
      window.set(next);
      this.#length = this.#size = next.length;
    }
    bytes.fill(0, this.end, this.end + MEMORY.guardBytes);
  }

  /** Passes over what is before address `to`. */
  advance(to: number): void {
    if (to >= this.end) this.#from += this.#length;
    else if (this.#length === this.#size) this.#from += to - MEMORY.window;
    else this.#from += decodeUtf8(this.#scratch.bytes.subarray(MEMORY.window, to)).length;
    this.#length = this.#size = 0;
  }

  /** Where the window begins in the list, or, without one, the next one will; for `returnTo`. */
  get position(): number {
    return this.#from;
  }

  /** Fills the window with what it had at `position`. */
  returnTo(position: number): void {
    this.#from = position;
    this.load();
  }

  /** Passes over the first lines of the window, blank ones not counted; it has as many. */
  passLines(count: number): void {
    let start: number = MEMORY.window;
    for (let left = count; left > 0; ) {
      const newline = this.lineEnd(start);
      if (newline !== start) left--;
      start = (newline ?? this.end) + 1;
    }
    this.advance(Math.min(start, this.end));
  }

  /** Address of the newline that ends the line at address `start`; `undefined` if it is not in the window. */
  lineEnd(start: number): number | undefined {
    const newline = MEMORY.window + this.#scratch.window.indexOf(NEWLINE, start - MEMORY.window);
    return newline < start || newline >= this.end ? undefined : newline;
  }

  /** Passes over the line with which the window begins and that does not fit into it; returns it without its newline. */
  takeLongLine(): Buffer {
    const isText = typeof this.#list === 'string';
    const newline = isText ? this.#list.indexOf('\n', this.#from) : this.#list.indexOf(NEWLINE, this.#from);
    const end = newline < 0 ? this.#list.length : newline;
    const line = this.#list.slice(this.#from, end);
    this.#from = end + 1;
    this.#length = this.#size = 0;
    return typeof line === 'string' ? encodeUtf8(line) : Buffer.from(line);
  }

  /** Passes over all that is left; returns how many lines, blank ones not counted, begin in it. */
  countLines(): number {
    let count = 0;
    let isGoingOn = false;
    for (; !this.isAtEnd; this.advance(this.end)) {
      this.load();
      for (let start = MEMORY.window; start < this.end; ) {
        const newline = this.lineEnd(start);
        if (!isGoingOn && newline !== start) count++;
        isGoingOn = newline === undefined;
        start = (newline ?? this.end) + 1;
      }
    }
    return count;
  }
}
