import { randomBytes } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { encryptPayload, IV_BYTES } from '@keylime/payload/encryption';
import { KEY_BYTES, splitKey } from '@keylime/payload/key-split';

/**
 * Encrypts a file for `keylime_tenant -k … -p …`: `content_keys.txt`, three lines of base64 in the order K, V, U (spec 07
 * section 3.7), and `content_payload.txt`, base64 of the ciphertext, both 0600 and in `dir`; files of these names are
 * replaced.
 */
export async function encryptToFiles(
  file: string,
  dir: string,
): Promise<{ readonly keysFile: string; readonly payloadFile: string }> {
  const content = await readFile(file);
  const { k, u, v } = splitKey(randomBytes(KEY_BYTES), randomBytes(KEY_BYTES));
  const payload = encryptPayload(k, content, randomBytes(IV_BYTES)).toString('base64');
  const keys = Buffer.from(`${[k, v, u].map((key) => key.toString('base64')).join('\n')}\n`);
  const keysFile = path.join(dir, 'content_keys.txt');
  const payloadFile = path.join(dir, 'content_payload.txt');
  try {
    await replace(keysFile, keys);
    await replace(payloadFile, payload);
  } finally {
    for (const secret of [content, k, u, v, keys]) secret.fill(0);
  }
  return { keysFile, payloadFile };
}

/** A new file takes the place of an old one, which others may be able to read. */
async function replace(file: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${file}.${randomBytes(8).toString('hex')}.tmp`;
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}
