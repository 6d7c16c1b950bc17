import { findProperty, readHandles } from './capabilities.ts';
import { NvRead, NvReadPublic } from './commands.ts';
import { isTpmError } from './response-code.ts';
import { password, type Tpm } from './tpm.ts';

/** TPM_PT_NV_BUFFER_MAX (TPM 2.0 Part 2 r1.59, 6.13): the largest piece that NV_Read hands out. */
const TPM_PT_NV_BUFFER_MAX = 0x12c;
const SMALLEST_PIECE = 512;

/** What the index holds, read with its own empty password; `undefined` if there is no such index. @throws TpmError */
export async function readNv(tpm: Tpm, index: number): Promise<Buffer | undefined> {
  const size = await nvSize(tpm, index);
  if (size === undefined) return undefined;
  const piece = Math.max(1, (await findProperty(tpm, TPM_PT_NV_BUFFER_MAX)) ?? SMALLEST_PIECE);
  const parts: Buffer[] = [];
  for (let offset = 0; offset < size; offset += piece) {
    const { data } = await tpm.run(NvRead, {
      handles: { authHandle: index, nvIndex: index },
      authorizations: [password()],
      parameters: { size: Math.min(piece, size - offset), offset },
    });
    parts.push(data);
  }
  return Buffer.concat(parts);
}

async function nvSize(tpm: Tpm, index: number): Promise<number | undefined> {
  try {
    const { nvPublic } = await tpm.run(NvReadPublic, { handles: { nvIndex: index }, parameters: {} });
    return nvPublic.dataSize;
  } catch (error) {
    if (isTpmError(error, 'TPM_RC_HANDLE')) return undefined;
    throw error;
  }
}

/** The NV indices from `first` to `last` that exist, ascending. */
export const nvIndices = async (tpm: Tpm, first: number, last: number): Promise<readonly number[]> =>
  (await readHandles(tpm, first, last - first + 1)).filter((index) => index >= first && index <= last);
