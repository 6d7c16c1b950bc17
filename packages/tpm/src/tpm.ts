import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Codec,
  countedBytes,
  decode,
  encode,
  Reader,
  restBytes,
  struct,
  u8,
  u16,
  u32,
  Writer,
} from '@keylime/core/codec';
import { type Command, Startup } from './commands.ts';
import { TPM_RS_PW } from './handles.ts';
import { isRetry, isTpmError, TpmError } from './response-code.ts';
import { tpm2bAuth } from './tpm2b.ts';
import type { Transport } from './transport/transport.ts';

const TPM_ST_NO_SESSIONS = 0x8001;
const TPM_ST_SESSIONS = 0x8002;
const CONTINUE_SESSION = 1;

/** TPMS_AUTH_COMMAND (TPM 2.0 Part 2 r1.59, 10.13.2). */
const TpmsAuthCommand = struct({ sessionHandle: u32, nonce: tpm2bAuth, attributes: u8, hmac: tpm2bAuth });

const CommandHeader = struct({ tag: u16, size: u32, code: u32 });
const ResponseHeader = struct({ tag: u16, size: u32, responseCode: u32 });
const HEADER_BYTES = 10;

/** Leave to use a handle. */
export type Authorization = { readonly session: number; readonly attributes: number; readonly value: Uint8Array };

/** By password: the auth value of an object or hierarchy, empty by default. */
export const password = (value: Uint8Array = Buffer.alloc(0)): Authorization => ({
  session: TPM_RS_PW,
  attributes: 0,
  value,
});

/** By a policy session, which stays open. */
export const policy = (session: number): Authorization => ({
  session,
  attributes: CONTINUE_SESSION,
  value: Buffer.alloc(0),
});

/** What a command is run with; parts that it does not have may be left out. */
export type Input<H extends string, P> = {
  readonly parameters: P;
  readonly authorizations?: readonly Authorization[];
} & ([H] extends [never] ? unknown : { readonly handles: Readonly<Record<H, number>> });

/** An open TPM. Commands run one at a time, in the order in which they were asked for. */
export type Tpm = {
  /** Runs one command. @throws TpmError if the TPM refuses it, TransportError if it cannot be reached. */
  readonly run: <H extends string, P, A>(command: Command<H, P, A>, input: Input<H, NoInfer<P>>) => Promise<A>;
  /** Runs `section` with no command of others between its own; it uses the `Tpm` that it is given. */
  readonly exclusive: <T>(section: (tpm: Tpm) => Promise<T>) => Promise<T>;
  /** Closes the transport after the commands under way. */
  readonly close: () => Promise<void>;
};

/** The bytes of a command (Part 1 r1.59, 18.1). */
export function encodeCommand<H extends string, P, A>(command: Command<H, P, A>, input: Input<H, NoInfer<P>>): Buffer {
  const { authorizations = [] } = input;
  const handles = 'handles' in input ? (input.handles as Readonly<Record<H, number>>) : undefined;
  if (authorizations.length < command.authorized) {
    throw new RangeError(`TPM2_${command.name} needs ${command.authorized} authorizations`);
  }
  const body = new Writer();
  for (const name of command.handles) u32.write(body, handles?.[name] ?? 0);
  if (authorizations.length > 0) {
    const area = new Writer();
    for (const { session, attributes, value } of authorizations) {
      const hmac = Buffer.from(value);
      TpmsAuthCommand.write(area, { sessionHandle: session, nonce: Buffer.alloc(0), attributes, hmac });
    }
    countedBytes(u32, 1024).write(body, Buffer.concat(area.parts));
  }
  command.parameters.write(body, input.parameters);
  const bytes = Buffer.concat(body.parts);
  const tag = authorizations.length > 0 ? TPM_ST_SESSIONS : TPM_ST_NO_SESSIONS;
  return Buffer.concat([encode(CommandHeader, { tag, size: HEADER_BYTES + bytes.length, code: command.code }), bytes]);
}

const parametersIn = (tag: number): Codec<Buffer> => (tag === TPM_ST_SESSIONS ? countedBytes(u32, 4096) : restBytes);

/** The answer in a response. @throws TpmError for a response code other than 0, DecodeError if it is malformed. */
export function decodeResponse<H extends string, P, A>(command: Command<H, P, A>, response: Buffer): A {
  const reader = new Reader(response);
  const { tag, size, responseCode } = ResponseHeader.read(reader);
  if (size !== response.length) reader.fail(`size ${size} announced, ${response.length} bytes there`);
  if (responseCode !== 0) throw new TpmError(command.name, responseCode);
  const handles = command.answerHandles.read(reader);
  const parameters = decode(command.answer, parametersIn(tag).read(reader));
  return { ...handles, ...(parameters as object) } as A;
}

const COMMAND_TIMEOUT_MS = 300_000;
const FIRST_DELAY_MS = 5;
const MAX_DELAY_MS = 500;

/** Sends one command until the TPM does not ask for it again, `retryMs` at most. */
async function perform<H extends string, P, A>(
  { transport, retryMs = 30_000 }: TpmOptions,
  command: Command<H, P, A>,
  input: Input<H, NoInfer<P>>,
  timeoutMs: number,
): Promise<A> {
  const bytes = encodeCommand(command, input);
  let waitedMs = 0;
  for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(2 * delayMs, MAX_DELAY_MS)) {
    try {
      return decodeResponse(command, await transport.transmit(bytes, { timeoutMs }));
    } catch (error) {
      const again = error instanceof TpmError && isRetry(error.responseCode.value) && waitedMs < retryMs;
      if (!again) throw error;
      await sleep(delayMs);
      waitedMs += delayMs;
    }
  }
}

/** A queue: each task starts when the one before it has ended. */
function queue(): <T>(task: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (task) => {
    const result = last.then(task);
    last = result.catch(() => {});
    return result;
  };
}

export type TpmOptions = {
  readonly transport: Transport;
  /** How long a command that the TPM wants repeated is repeated. */
  readonly retryMs?: number;
  /** How long the first answer may take; swtpm leaves a second client waiting without a word. */
  readonly startupTimeoutMs?: number;
  /** How long any other answer may take (making an RSA key may take minutes); an emulator that hangs is given up. */
  readonly commandTimeoutMs?: number;
};

/** Startup, also where somebody has done it before; an emulator that waits for its control channel is initialised. */
async function start(options: TpmOptions): Promise<void> {
  const { startupTimeoutMs = 15_000 } = options;
  const startup = async () => {
    try {
      await perform(options, Startup, { parameters: { startupType: 'clear' } }, startupTimeoutMs);
    } catch (error) {
      if (!isTpmError(error, 'TPM_RC_INITIALIZE')) throw error;
    }
  };
  try {
    await startup();
  } catch (error) {
    const { initialise } = options.transport;
    if (initialise === undefined || !isTpmError(error, 'TPM_RC_FAILURE')) throw error;
    await initialise();
    await startup();
  }
}

/**
 * Takes a transport into use: starts the TPM if that was not done, and queues commands. Closes the transport if that
 * fails. @throws TransportError, TpmError
 */
export async function openTpm(options: TpmOptions): Promise<Tpm> {
  const { transport } = options;
  try {
    await start(options);
  } catch (error) {
    await transport.close();
    throw error;
  }
  const enqueue = queue();
  const inner: Tpm = {
    run: (command, input) => perform(options, command, input, options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS),
    exclusive: (section) => section(inner),
    close: () => transport.close(),
  };
  return {
    run: (command, input) => enqueue(() => inner.run(command, input)),
    exclusive: (section) => enqueue(() => section(inner)),
    close: () => enqueue(() => transport.close()),
  };
}
