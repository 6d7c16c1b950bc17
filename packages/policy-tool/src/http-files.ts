import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isErrno, reason, ToolError } from './tool-error.ts';

export type HttpOptions = {
  /** Ask for the first bytes only; a server may send more. */
  readonly firstBytes?: number;
};

/**
 * The body of an HTTP answer; `undefined` if there is no such file. Redirects are followed, but not from https to http. A
 * large file may take as long as it needs: Node ends a transfer of which nothing came for 300 seconds.
 * @throws ToolError `download_failed`
 */
export async function openUrl(url: string, { firstBytes }: HttpOptions = {}): Promise<Readable | undefined> {
  let answer: Response;
  try {
    answer = await fetch(url, {
      headers: firstBytes === undefined ? {} : { range: `bytes=0-${firstBytes - 1}` },
    });
  } catch (error) {
    throw failed(url, reason(error instanceof Error && error.cause !== undefined ? error.cause : error), error);
  }
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
