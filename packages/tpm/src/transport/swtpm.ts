import { decode, encode, struct, u32 } from '@keylime/core/codec';
import { addressText, openSocket, type SocketAddress } from './socket.ts';
import { announcedSize, MAX_RESPONSE_BYTES, type Transport, TransportError } from './transport.ts';

const CMD_INIT = 2;
/** Initialise without deleting volatile state. */
const ControlInit = struct({ command: u32, flags: u32 });
const CONTROL_TIMEOUT_MS = 10_000;

/** Size of the response at the beginning of `received`. @throws TransportError if it is none. */
export function responseSize(received: Buffer): number | undefined {
  const size = announcedSize(received);
  if (size !== undefined && (size < 10 || size > MAX_RESPONSE_BYTES)) {
    throw new TransportError('tpm_response_malformed', `a response of ${size} bytes is announced`);
  }
  return size;
}

/** By convention the control channel is at the next port, or at the path with `.ctrl`. */
const controlOf = (address: SocketAddress): SocketAddress =>
  'path' in address ? { path: `${address.path}.ctrl` } : { host: address.host, port: address.port + 1 };

async function initialise(address: SocketAddress): Promise<void> {
  const control = await openSocket(address);
  try {
    const request = encode(ControlInit, { command: CMD_INIT, flags: 0 });
    const answer = await control.ask(request, () => 4, CONTROL_TIMEOUT_MS);
    const result = decode(u32, answer);
    if (result !== 0) {
      const message = `TPM emulator at ${addressText(address)} refused to initialise: 0x${result.toString(16)}`;
      throw new TransportError('tpm_emulator_unreachable', message);
    }
  } finally {
    await control.close();
  }
}

/**
 * swtpm's data channel: bare commands and responses over TCP or a Unix socket (man swtpm, `--server`); its control
 * channel only if `initialise` is called. swtpm serves one connection at a time.
 * @throws TransportError if nobody listens.
 */
export async function openSwtpm(address: SocketAddress): Promise<Transport> {
  const data = await openSocket(address);
  return {
    name: `swtpm at ${addressText(address)}`,
    transmit: (command, options) => data.ask(command, responseSize, options?.timeoutMs),
    initialise: () => initialise(controlOf(address)),
    close: data.close,
  };
}
