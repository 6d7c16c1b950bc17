import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { isErrno, reason, ToolError } from './tool-error.ts';

export type HttpOptions = {
  /** Ask for the first bytes only; a server may send more. */
  readonly firstBytes?: number;
};

/** A failure that another try may help against: of thousands of files one now and then does not come. */
class PassingFailure extends ToolError {}

/** Before each further try. */
const PAUSES_MS = [500, 2000];

/** Does `work`, up to three times if its downloads fail in a way that may pass. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof PassingFailure)) throw error;
      await wait(pauseMs);
    }
  }
  return await work();
}

/**
 * The body of an HTTP answer; `undefined` if there is no such file. Redirects are followed, but not from https to http. A
 * large file may take as long as it needs: Node ends a transfer of which nothing came for 300 seconds.
 * @throws ToolError `download_failed`, also while the body is read
 */
export async function openUrl(
  url: string,
  { firstBytes }: HttpOptions = {},
): Promise<AsyncIterable<Uint8Array> | undefined> {
  const headers = firstBytes === undefined ? {} : { range: `bytes=0-${firstBytes - 1}` };
  const answer = await fetch(url, { headers }).catch((error: unknown) => {
    throw unreachable(url, error);
  });
  if (url.startsWith('https:') && !answer.url.startsWith('https:')) {
    await answer.body?.cancel();
    throw failed(url, `the server redirects to ${answer.url}, which is not protected`);
  }
  if (answer.ok && answer.body !== null) return piecesOf(url, answer.body);
  await answer.body?.cancel();
  const { status } = answer;
  if (status === 404 || status === 410) return undefined;
  const isBusy = status === 429 || status >= 500;
  throw failed(url, `the server answered ${status}`, undefined, isBusy);
}

async function* piecesOf(url: string, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw failed(url, reason(causeOf(error)), error, true);
  }
}

/** Up to `maxBytes` of a file. @throws ToolError `download_failed` */
export const findUrl = (url: string, maxBytes: number): Promise<Buffer | undefined> =>
  patiently(async () => {
    const body = await openUrl(url);
    if (body === undefined) return undefined;
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of body) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw failed(url, `it is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  });

/** Writes a file that is downloaded to disk, where none must be. @throws ToolError `download_failed`, `file_unwritable` */
export const saveUrl = (url: string, file: string): Promise<void> =>
  patiently(async () => {
    const body = await openUrl(url);
    if (body === undefined) throw failed(url, 'there is no such file');
    try {
      await pipeline(body, createWriteStream(file, { flags: 'wx', mode: 0o600 }));
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) await rm(file, { force: true });
      if (error instanceof ToolError) throw error;
      throw new ToolError('file_unwritable', `Cannot write ${file}: ${reason(error)}`, { cause: error });
    }
  });

/** The error of the network that `fetch` wraps. */
const causeOf = (error: unknown): unknown =>
  error instanceof Error && error.cause !== undefined ? error.cause : error;

/** Of OpenSSL: nobody whom this program knows vouches for the server. */
const UNKNOWN_ISSUER = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
];

/** Against a wrong name, address or certificate no other try helps. */
const PASSING = ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT'];

function unreachable(url: string, error: unknown): ToolError {
  const cause = causeOf(error);
  const why = isErrno(cause, ...UNKNOWN_ISSUER)
    ? 'its certificate is by no CA that is known: name yours with the environment variable NODE_EXTRA_CA_CERTS'
    : reason(cause);
  return failed(url, why, error, isErrno(cause, ...PASSING));
}

function failed(url: string, why: string, cause?: unknown, isPassing = false): ToolError {
  const message = `Downloading ${url} failed: ${why}`;
  return new (isPassing ? PassingFailure : ToolError)('download_failed', message, { cause });
}
