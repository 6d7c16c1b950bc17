import { type BytesView, viewOf } from '@keylime/core/bytes-view';
import { runSteps, type Steps } from '@keylime/core/steps';

/** What threads pass to each other: the memory of a table, which they then have in common. */
export type SharedTable = {
  /** Names in `records`. */
  readonly size: number;
  /** For each place the hash of a name, and where its record begins, plus one; 0 where there is none. */
  readonly places: SharedArrayBuffer;
  /** Per name: its bytes and their number, the number of values, and for each its bytes and their number. */
  readonly records: SharedArrayBuffer;
  /** Names that have no UTF-8, or values that have none: half a surrogate pair. */
  readonly odd: ReadonlyMap<string, readonly string[]>;
};

const NUMBER = 4;
const FACTOR = 0x9e3779b1;
/** More values of one name are not searched one by one. */
const MOST_SEARCHED = 64;

/** Where strings that are looked for are written: a name, and behind it a value. */
let wanted = viewOf(new ArrayBuffer(4096));

/** Writes `text` as UTF-8 at `at`, and returns where it ends; `undefined` if it has half a surrogate pair. */
function want(text: string, at: number): number | undefined {
  const most = at + 3 * text.length;
  if (most > wanted.bytes.length) {
    const before = wanted.bytes;
    wanted = viewOf(new ArrayBuffer(2 * most));
    before.copy(wanted.bytes);
  }
  const size = wanted.bytes.write(text, at, 'utf8');
  return size === text.length || text.isWellFormed() ? at + size : undefined;
}

/** Names of other tables may have the same: only bytes count. */
export function hashOf({ bytes, data }: BytesView, from: number, to: number): number {
  let hash = to - from;
  let at = from;
  for (; at + NUMBER <= to; at += NUMBER) hash = mixed(hash ^ data.getInt32(at, true));
  for (; at < to; at++) hash = mixed(hash ^ (bytes[at] as number));
  return hash;
}

const mixed = (value: number): number => {
  const product = Math.imul(value, FACTOR);
  return product ^ (product >>> 15);
};

function isSame(one: BytesView, from: number, other: BytesView, otherFrom: number, length: number): boolean {
  let i = 0;
  for (; i + NUMBER <= length; i += NUMBER) {
    if (one.data.getInt32(from + i, true) !== other.data.getInt32(otherFrom + i, true)) return false;
  }
  for (; i < length; i++) if (one.bytes[from + i] !== other.bytes[otherFrom + i]) return false;
  return true;
}

/** The first bytes of a value as a number, by which most others are told apart from it. */
const startOf = (bytes: Buffer, from: number, to: number): number =>
  to - from < NUMBER ? -1 : bytes.readInt32LE(from);

/**
 * Strings by name, each name with at least one, in memory that threads share: a policy of a hundred thousand files is there once
 * in a process. Does what a map of the same would, and never changes.
 */
export class StringTable implements ReadonlyMap<string, readonly string[]> {
  readonly shared: SharedTable;
  readonly #places: Int32Array;
  readonly #records: BytesView;
  /** Values of names that have many, by their record: the bytes of each as characters. */
  readonly #many = new Map<number, ReadonlySet<string>>();

  /** Of what another table has as `shared`. */
  constructor(shared: SharedTable) {
    this.shared = shared;
    this.#places = new Int32Array(shared.places);
    this.#records = viewOf(shared.records);
  }

  static of(lists: Iterable<readonly [string, readonly string[]]>): StringTable {
    const builder = new StringTableBuilder();
    for (const [name, values] of lists) builder.add(name, values);
    return runSteps(builder.finish());
  }

  get size(): number {
    return this.shared.size + this.shared.odd.size;
  }

  /** Whether `value` is one of those of `name`. */
  includes(name: string, value: string): boolean {
    const nameEnd = want(name, 0);
    const end = nameEnd === undefined ? undefined : want(value, nameEnd);
    const isFound =
      nameEnd !== undefined && end !== undefined && this.#hasValue(wanted, 0, nameEnd, wanted, nameEnd, end);
    return isFound || (this.shared.odd.get(name)?.includes(value) ?? false);
  }

  /** The same for the UTF-8 bytes of both: the name stands in `view` from `from` to `to`, the value from `valueFrom` to `valueTo`. */
  includesBytes(view: BytesView, from: number, to: number, valueFrom: number, valueTo: number): boolean {
    return this.#hasValue(view, from, to, view, valueFrom, valueTo);
  }

  #hasValue(
    names: BytesView,
    from: number,
    to: number,
    values: BytesView,
    valueFrom: number,
    valueTo: number,
  ): boolean {
    const record = this.#find(names, from, to);
    if (record < 0) return false;
    const { data } = this.#records;
    let at = record + NUMBER + (to - from);
    const size = valueTo - valueFrom;
    let left = data.getInt32(at, true);
    if (left > MOST_SEARCHED) return this.#manyOf(record).has(values.bytes.toString('latin1', valueFrom, valueTo));
    for (at += NUMBER; left > 0; left--) {
      const length = data.getInt32(at, true);
      at += NUMBER;
      if (length === size && isSame(this.#records, at, values, valueFrom, size)) return true;
      at += length;
    }
    return false;
  }

  #manyOf(record: number): ReadonlySet<string> {
    const known = this.#many.get(record);
    if (known !== undefined) return known;
    const many = new Set(this.#read(record, 'latin1').values);
    this.#many.set(record, many);
    return many;
  }

  /** Where the record of a name begins, or -1. */
  #find(view: BytesView, from: number, to: number): number {
    const hash = hashOf(view, from, to);
    const mask = (this.#places.length >> 1) - 1;
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      const record = (this.#places[2 * place + 1] as number) - 1;
      if (record < 0) return -1;
      if (this.#places[2 * place] !== hash) continue;
      const length = this.#records.data.getInt32(record, true);
      if (length === to - from && isSame(this.#records, record + NUMBER, view, from, length)) return record;
    }
  }

  get(name: string): readonly string[] | undefined {
    const end = want(name, 0);
    const record = end === undefined ? -1 : this.#find(wanted, 0, end);
    return record < 0 ? this.shared.odd.get(name) : this.#read(record).values;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** Each name that has one of these values, with the value. Looks through the whole table. */
  *namesWith(values: Iterable<string>): Generator<readonly [name: string, value: string]> {
    const asked = new Set(values);
    const sizes = new Set(Array.from(asked, (value) => Buffer.byteLength(value)));
    const starts = new Set(Array.from(asked, (value) => startOf(Buffer.from(value), 0, Buffer.byteLength(value))));
    const { bytes, data } = this.#records;
    for (let record = 0; record < bytes.length; ) {
      const nameEnd = record + NUMBER + data.getInt32(record, true);
      let at = nameEnd + NUMBER;
      for (let left = data.getInt32(nameEnd, true); left > 0; left--) {
        const from = at + NUMBER;
        at = from + data.getInt32(at, true);
        if (!sizes.has(at - from) || !starts.has(startOf(bytes, from, at))) continue;
        const value = bytes.toString('utf8', from, at);
        if (asked.has(value)) yield [bytes.toString('utf8', record + NUMBER, nameEnd), value];
      }
      record = at;
    }
    for (const [name, odd] of this.shared.odd) for (const value of odd) if (asked.has(value)) yield [name, value];
  }

  #read(
    record: number,
    encoding: 'utf8' | 'latin1' = 'utf8',
  ): { readonly name: string; readonly values: readonly string[]; readonly end: number } {
    let at = record;
    const number = () => {
      at += NUMBER;
      return this.#records.data.getInt32(at - NUMBER, true);
    };
    const text = () => {
      const length = number();
      at += length;
      return this.#records.bytes.toString(encoding, at - length, at);
    };
    const name = text();
    const values = Array.from({ length: number() }, text);
    return { name, values, end: at };
  }

  *entries(): MapIterator<[string, readonly string[]]> {
    for (let record = 0; record < this.#records.bytes.length; ) {
      const { name, values, end } = this.#read(record);
      yield [name, values];
      record = end;
    }
    yield* this.shared.odd;
  }

  [Symbol.iterator](): MapIterator<[string, readonly string[]]> {
    return this.entries();
  }

  *keys(): MapIterator<string> {
    for (const [name] of this.entries()) yield name;
  }

  *values(): MapIterator<readonly string[]> {
    for (const [, values] of this.entries()) yield values;
  }

  forEach(use: (values: readonly string[], name: string, map: ReadonlyMap<string, readonly string[]>) => void): void {
    for (const [name, values] of this.entries()) use(values, name, this);
  }
}

const NAMES_PER_STEP = 2048;

/** Makes a table name by name, of which each comes once. */
export class StringTableBuilder {
  readonly #odd = new Map<string, readonly string[]>();
  #records: BytesView;
  #end = 0;
  #size = 0;

  /** For about so many bytes: of names, of values, and four more for each of them. */
  constructor(bytes = 4096) {
    this.#records = viewOf(new ArrayBuffer(bytes));
  }

  add(name: string, values: readonly string[]): void {
    const start = this.#end;
    if (this.#text(name) && this.#number(values.length) && values.every((value) => this.#text(value))) {
      this.#size++;
      return;
    }
    this.#end = start;
    this.#odd.set(name, values);
  }

  #number(value: number): true {
    this.#makeRoom(NUMBER);
    this.#records.data.setInt32(this.#end, value, true);
    this.#end += NUMBER;
    return true;
  }

  /** Tells whether `text` has UTF-8. */
  #text(text: string): boolean {
    this.#makeRoom(NUMBER + 3 * text.length);
    const size = this.#records.bytes.write(text, this.#end + NUMBER, 'utf8');
    this.#number(size);
    this.#end += size;
    return size === text.length || text.isWellFormed();
  }

  #makeRoom(size: number): void {
    const { bytes } = this.#records;
    if (this.#end + size <= bytes.length) return;
    this.#records = viewOf(new ArrayBuffer(2 * (bytes.length + size)));
    bytes.copy(this.#records.bytes, 0, 0, this.#end);
  }

  /** The table of all that was added, in steps of a few thousand names. */
  *finish(): Steps<StringTable> {
    const records = new SharedArrayBuffer(this.#end);
    this.#records.bytes.copy(Buffer.from(records), 0, 0, this.#end);
    yield;
    const places = new SharedArrayBuffer(2 * NUMBER * 2 ** Math.ceil(Math.log2(2 * this.#size + 2)));
    const table = new Int32Array(places);
    const mask = (table.length >> 1) - 1;
    const view = this.#records;
    for (let record = 0, count = 1; record < this.#end; count++) {
      const name = record + NUMBER;
      const nameEnd = name + view.data.getInt32(record, true);
      const hash = hashOf(view, name, nameEnd);
      let place = hash & mask;
      while (table[2 * place + 1] !== 0) place = (place + 1) & mask;
      table[2 * place] = hash;
      table[2 * place + 1] = record + 1;
      let next = nameEnd + NUMBER;
      for (let left = view.data.getInt32(nameEnd, true); left > 0; left--) {
        next += NUMBER + view.data.getInt32(next, true);
      }
      record = next;
      if (count % NAMES_PER_STEP === 0) yield;
    }
    return new StringTable({ size: this.#size, places, records, odd: this.#odd });
  }
}
