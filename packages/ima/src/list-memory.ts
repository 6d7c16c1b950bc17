/** Most entries in one batch. */
export const BATCH = 512;

/** The longest message: lanes are read to the end of the longest of four, so some room remains behind the messages. */
export const LONGEST_MESSAGE = 0x4000;

/** Where things are in the memory of the module that reads lists, in bytes. Numbers are as the machine stores them. */
export const MEMORY = {
  /** What SHA adds in its rounds. */
  constants: 0,
  hexDigits: 0x200,
  /** Where the last call of `matchLines` or `readFiles` stopped in the list, and behind the last message. */
  stoppedAt: 0x440,
  messagesTo: 0x444,
  /** Per message: address of its padded blocks, their number, and where its SHA-256 goes. */
  addresses: 0x1000,
  counts: 0x1800,
  places: 0x2000,
  /** Per message: the address of its digest among `columnDigests`; these never change. */
  columnPlaces: 0x2c00,
  /** Per entry: the number of its message; address of its line, and behind the last line. */
  messageNumbers: 0x3400,
  lineStarts: 0x3c00,
  /** Per message: addresses of its digest in hex, of its path, and behind it; whether the path is not ASCII. */
  digestStarts: 0x4800,
  pathStarts: 0x5000,
  pathEnds: 0x5800,
  wide: 0x6000,
  /** Per message: address of the template hash column of its line. */
  columnStarts: 0x7000,
  /** 32 bytes per entry that can be read. */
  bankDigests: 0x8000,
  /** Where digests of no message go. */
  spareDigest: 0xc000,
  /** 32 bytes per message: its digest in the algorithm of the template hash column, if that is SHA-1. */
  columnDigests: 0xd000,
  messages: 0x1_2000,
  messagesEnd: 0x6_2000,
  /** A piece of a list. */
  window: 0x8_0000,
  windowBytes: 0x2_0000,
  /** Zeros behind the piece: more than there are in a line up to where its end is looked for, so that none goes on behind it. */
  guardBytes: 256,
  pages: 11,
  /** Known lines: a table of addresses, then what it leads to (known-lines.ts). */
  known: 0xb_0000,
} as const;
