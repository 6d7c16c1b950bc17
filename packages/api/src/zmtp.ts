/**
 * The few parts of ZMTP 3.0 (ZeroMQ's protocol, RFC 23 of zeromq.org) that a publisher and its subscribers without security
 * need: revocations are published so (spec 06 section 4.4). Whoever can write to the connection can send messages: they
 * count only with their signature.
 */
const SIGNATURE_BYTES = 10;
export const GREETING_BYTES = 64;
const MORE = 0x01;
const LONG = 0x02;
const COMMAND = 0x04;

/** What either side sends first: signature, version 3.0, mechanism NULL. */
export function greeting(): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES);
  bytes.writeUInt8(0xff, 0);
  bytes.writeUInt8(1, 8);
  bytes.writeUInt8(0x7f, 9);
  bytes.writeUInt8(3, SIGNATURE_BYTES);
  bytes.write('NULL', 12, 'latin1');
  return bytes;
}

/** Whether the peer's greeting is of ZMTP 3 without security. */
export const isGreeting = (bytes: Buffer): boolean =>
  bytes.length === GREETING_BYTES &&
  bytes[0] === 0xff &&
  bytes[9] === 0x7f &&
  (bytes[SIGNATURE_BYTES] ?? 0) >= 3 &&
  bytes.toString('latin1', 12, 32).replace(/\0+$/, '') === 'NULL';

/** The command READY of a socket of type SUB, and the message that subscribes to everything. */
export function readyAndSubscribe(): Buffer {
  return Buffer.concat([ready('SUB'), Buffer.from([0, 1, SUBSCRIBE])]);
}

/** First byte of the messages of a subscriber; what follows is what messages must begin with. */
export const SUBSCRIBE = 1;
export const UNSUBSCRIBE = 0;

/** The command READY of a socket of this type. */
export function ready(socketType: 'PUB' | 'SUB'): Buffer {
  const body = Buffer.from(`\x05READY\x0bSocket-Type\0\0\0\x03${socketType}`, 'latin1');
  return Buffer.concat([Buffer.from([COMMAND, body.length]), body]);
}

/** A message of one part. */
export function message(body: Uint8Array): Buffer {
  const header = Buffer.alloc(body.length > 255 ? 9 : 2);
  if (header.length === 9) {
    header.writeUInt8(LONG, 0);
    header.writeBigUInt64BE(BigInt(body.length), 1);
  } else header.writeUInt8(body.length, 1);
  return Buffer.concat([header, body]);
}

export type Frame = { readonly isCommand: boolean; readonly hasMore: boolean; readonly body: Buffer };

/** The first frame in `bytes` and how many bytes it has; `undefined` if it is not whole yet. Throws RangeError if too long. */
export function readFrame(
  bytes: Buffer,
  maxBytes: number,
): { readonly frame: Frame; readonly size: number } | undefined {
  const [flags] = bytes;
  if (flags === undefined) return undefined;
  const headerBytes = flags & LONG ? 9 : 2;
  if (bytes.length < headerBytes) return undefined;
  const length = flags & LONG ? Number(bytes.readBigUInt64BE(1)) : bytes.readUInt8(1);
  if (length > maxBytes) throw new RangeError(`a frame of ${length} bytes`);
  const size = headerBytes + length;
  if (bytes.length < size) return undefined;
  const body = Buffer.from(bytes.subarray(headerBytes, size));
  return { frame: { isCommand: (flags & COMMAND) !== 0, hasMore: (flags & MORE) !== 0, body }, size };
}

/** Name of a command, such as `READY`. */
export const commandName = ({ body }: Frame): string => body.toString('latin1', 1, 1 + (body[0] ?? 0));

/**
 * Takes what a peer sends, in pieces of any size: `greeted` is called at the end of its greeting, `frame` with each frame
 * behind it. The result throws if it is not ZMTP 3 without security, or a frame is longer than `maxFrameBytes`.
 */
export function zmtpReader(
  maxFrameBytes: number,
  events: { readonly greeted: () => void; readonly frame: (frame: Frame) => void },
): (chunk: Buffer) => void {
  let bytes = Buffer.alloc(0);
  let isGreeted = false;
  return (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    if (!isGreeted) {
      if (bytes.length < GREETING_BYTES) return;
      if (!isGreeting(bytes.subarray(0, GREETING_BYTES))) throw new Error('another protocol');
      bytes = bytes.subarray(GREETING_BYTES);
      isGreeted = true;
      events.greeted();
    }
    for (let next = readFrame(bytes, maxFrameBytes); next !== undefined; next = readFrame(bytes, maxFrameBytes)) {
      bytes = bytes.subarray(next.size);
      events.frame(next.frame);
    }
  };
}
