import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { isErrno, reason, ToolError } from './tool-error.ts';

export type HttpOptions = {
  /** Ask for the first bytes only; a server may send more. */
  readonly firstBytes?: number;
};

/** Before each further try; servers of distributions are mirrors, of which now and then one is busy. */
const PAUSES_MS = [500, 2000];

/**
 * The body of an HTTP answer; `undefined` if there is no such file. Redirects are followed, but not from https to http. A
 * server that cannot be reached or is busy is asked again, twice. A large file may take as long as it needs: Node ends a
 * transfer of which nothing came for 300 seconds.
 * @throws ToolError `download_failed`
 */
export async function openUrl(url: string, { firstBytes }: HttpOptions = {}): Promise<Readable | undefined> {
  const headers = firstBytes === undefined ? {} : { range: `bytes=0-${firstBytes - 1}` };
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(url, { headers }).catch((error: unknown) => error);
    const mayHelp = answer instanceof Response ? isBusy(answer) : mayPass(answer);
    const pauseMs = mayHelp ? PAUSES_MS[attempt] : undefined;
    if (pauseMs === undefined) {
      if (answer instanceof Response) return bodyOf(url, answer);
      throw unreachable(url, answer);
    }
    if (answer instanceof Response) await answer.body?.cancel();
    await wait(pauseMs);
  }
}

const isBusy = ({ status }: Response): boolean => status === 429 || status >= 500;

/** The error of the network that `fetch` wraps. */
const causeOf = (error: unknown): unknown =>
  error instanceof Error && error.cause !== undefined ? error.cause : error;

/** Whether another try may help: not against a wrong name, address or certificate. */
const mayPass = (error: unknown): boolean =>
  isErrno(causeOf(error), 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EAI_AGAIN', 'UND_ERR_SOCKET', 'UND_ERR_CONNECT_TIMEOUT');

/** Of OpenSSL: nobody whom this program knows vouches for the server. */
const UNKNOWN_ISSUER = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
];

function unreachable(url: string, error: unknown): ToolError {
  const cause = causeOf(error);
  if (!isErrno(cause, ...UNKNOWN_ISSUER)) return failed(url, reason(cause), error);
  const why = 'its certificate is by no CA that is known: name yours with the environment variable NODE_EXTRA_CA_CERTS';
  return failed(url, why, error);
}

async function bodyOf(url: string, answer: Response): Promise<Readable | undefined> {
  if (url.startsWith('https:') && !answer.url.startsWith('https:')) {
    await answer.body?.cancel();
    throw failed(url, `the server redirects to ${answer.url}, which is not protected`);
  }
  if (answer.ok && answer.body !== null) return Readable.fromWeb(answer.body);
  await answer.body?.cancel();
  if (answer.status === 404 || answer.status === 410) return undefined;
  throw failed(url, `the server answered ${answer.status}`);
}

/** Up to `maxBytes` of a file. @throws ToolError `download_failed` */
export async function findUrl(url: string, maxBytes: number): Promise<Buffer | undefined> {
  const body = await openUrl(url);
  if (body === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of body) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) throw failed(url, `it is larger than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof ToolError ? error : failed(url, reason(error), error);
  }
  return Buffer.concat(chunks);
}

/** Writes a file that is downloaded to disk. @throws ToolError `download_failed`, `file_unwritable` */
export async function saveUrl(url: string, file: string): Promise<void> {
  const body = await openUrl(url);
  if (body === undefined) throw failed(url, 'there is no such file');
  try {
    await pipeline(body, createWriteStream(file, { flags: 'wx', mode: 0o600 }));
  } catch (error) {
    if (isErrno(error, 'ENOSPC', 'EACCES', 'EEXIST')) {
      throw new ToolError('file_unwritable', `Cannot write ${file}: ${reason(error)}`, { cause: error });
    }
    throw failed(url, reason(error), error);
  }
}

const failed = (url: string, why: string, cause?: unknown): ToolError =>
  new ToolError('download_failed', `Downloading ${url} failed: ${why}`, { cause });
