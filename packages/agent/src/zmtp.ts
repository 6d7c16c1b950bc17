/**
 * The few parts of ZMTP 3.0 (ZeroMQ's protocol, RFC 23 of zeromq.org) that a subscriber without security needs: the
 * existing verifier publishes revocations so (spec 06 section 4.4). Whoever can write to the connection can send messages:
 * they count only with their signature.
 */
const SIGNATURE_BYTES = 10;
export const GREETING_BYTES = 64;
const MORE = 0x01;
const LONG = 0x02;
const COMMAND = 0x04;

/** What a subscriber sends first: signature, version 3.0, mechanism NULL. */
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
  const property = Buffer.from('\x0bSocket-Type\0\0\0\x03SUB', 'latin1');
  const body = Buffer.concat([Buffer.from('\x05READY', 'latin1'), property]);
  return Buffer.concat([Buffer.from([COMMAND, body.length]), body, Buffer.from([0, 1, 1])]);
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
