import { countedBytes, decode, encode, struct, u8, u32 } from '@keylime/core/codec';
import { addressText, openSocket, type SocketAddress } from './socket.ts';
import { MAX_RESPONSE_BYTES, type Transport, TransportError } from './transport.ts';

const SIGNAL_POWER_ON = 1;
const SEND_COMMAND = 8;
const SIGNAL_NV_ON = 11;
const PLATFORM_TIMEOUT_MS = 10_000;

const MssimCommand = struct({ request: u32, locality: u8, command: countedBytes(u32, MAX_RESPONSE_BYTES) });
const MssimResponse = struct({ response: countedBytes(u32, MAX_RESPONSE_BYTES), result: u32 });

function answerSize(received: Buffer): number | undefined {
  if (received.length < 4) return undefined;
  const size = received.readUInt32BE(0);
  if (size > MAX_RESPONSE_BYTES) {
    throw new TransportError('tpm_response_malformed', `a response of ${size} bytes is announced`);
  }
  return 4 + size + 4;
}

async function powerOn(platform: SocketAddress): Promise<void> {
  const socket = await openSocket(platform);
  try {
    for (const signal of [SIGNAL_POWER_ON, SIGNAL_NV_ON]) {
      const result = decode(u32, await socket.ask(encode(u32, signal), () => 4, PLATFORM_TIMEOUT_MS));
      if (result !== 0) {
        const message = `TPM simulator at ${addressText(platform)} refused signal ${signal}: 0x${result.toString(16)}`;
        throw new TransportError('tpm_emulator_unreachable', message);
      }
    }
  } finally {
    await socket.close();
  }
}

/**
 * The Microsoft simulator's protocol (TCG reference implementation, TcpServer.c): commands at `port` in a frame with
 * locality 0, power and NV signals at the next port.
 * @throws TransportError if nobody listens.
 */
export async function openMssim({ host, port }: { readonly host: string; readonly port: number }): Promise<Transport> {
  await powerOn({ host, port: port + 1 });
  const socket = await openSocket({ host, port });
  return {
    name: `simulator at ${host}:${port}`,
    async transmit(command, options) {
      const request = encode(MssimCommand, { request: SEND_COMMAND, locality: 0, command });
      const { response, result } = decode(MssimResponse, await socket.ask(request, answerSize, options?.timeoutMs));
      if (result === 0) return response;
      throw new TransportError('tpm_response_malformed', `the simulator's frame ends with 0x${result.toString(16)}`);
    },
    close: socket.close,
  };
}
