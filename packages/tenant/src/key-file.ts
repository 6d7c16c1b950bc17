import { parseBase64 } from '@keylime/core/base64';
import { isKeySize, joinKey, type KeySplit } from '@keylime/payload/key-split';
import { TenantError } from './tenant-error.ts';

/**
 * Reads a key file: three lines of base64, K, U and V (spec 07 section 3.7). [compat] `keylime_userdata_encrypt` writes K,
 * V, U, which means the same, since both halves together make K; that they do is checked here.
 * @throws TenantError `payload_invalid`, which names the line and shows nothing of it
 */
export function parseKeyFile(text: string, file: string): KeySplit {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  while (lines.at(-1) === '') lines.pop();
  if (lines.length !== 3) {
    throw invalid(
      file,
      `it has ${lines.length} lines, not the three of keylime_userdata_encrypt: K, U and V in base64`,
    );
  }
  const [k, u, v] = lines.map((line, index) => {
    const bytes = parseBase64(line);
    if (bytes !== undefined && isKeySize(bytes)) return bytes;
    throw invalid(file, `line ${index + 1} is not 16 or 32 bytes in base64`);
  }) as [Buffer, Buffer, Buffer];
  if (k.length !== u.length || k.length !== v.length) throw invalid(file, 'its keys are of different sizes');
  const joined = joinKey(u, v);
  const fits = joined.equals(k);
  joined.fill(0);
  if (!fits) throw invalid(file, 'lines two and three do not make the key of line one: the file is damaged');
  return { k, u, v };
}

const invalid = (file: string, why: string): TenantError =>
  new TenantError('payload_invalid', `Invalid key file ${file}: ${why}`);
