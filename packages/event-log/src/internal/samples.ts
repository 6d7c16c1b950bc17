import { encode } from '@keylime/core/codec';
import { encodeGpt } from '../encode-data.ts';
import { type Guid, guid } from '../guid.ts';
import type { UintnSize } from '../uintn.ts';

/** Short names for bytes in tests. */

export const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
export const guidBytes = (value: Guid): Buffer => encode(guid, value);

export const SAMPLE_GUID = 'c3224be1-707a-4677-80b8-4eda1d41927e';

/** A GPT with one partition. */
export const gpt = (uintn: UintnSize = 8): Buffer =>
  encodeGpt(
    SAMPLE_GUID,
    [
      {
        typeGuid: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
        uniqueGuid: SAMPLE_GUID,
        startingLba: 2048n,
        endingLba: 4000n,
        attributes: 0n,
        name: 'EFI System',
      },
    ],
    uintn,
  );
