import type { HashAlgorithm } from '@keylime/core/digest';
import type { QuoteProgress } from '@keylime/ima/quote-progress';
import type { TpmsClockInfo } from '@keylime/tpm/attest';
import type { DmState } from './device-mapper.ts';
import type { LearnedKeyrings } from './signing-keys.ts';

/** What is remembered of an attester between two attestations; empty at enrolment. Only verified evidence changes it. */
export type Progress = {
  /** First measurement list entry that no verified quote has certified. */
  readonly nextEntry: number;
  /** PCR 10 before `nextEntry`, in `bank`. Absent where `nextEntry` is 0. */
  readonly runningPcr?: Uint8Array;
  readonly quoteProgress?: QuoteProgress;
  /** The bank that `runningPcr` is of. */
  readonly bank?: HashAlgorithm;
  readonly clock?: TpmsClockInfo;
  /** The transport key that a verified quote bound through PCR 16, PEM as received. */
  readonly transportKeyPem?: string;
  /** What first-generation agents call their boot time, as they said it with the last verified quote. */
  readonly bootTime?: number;
  /** Checksum of the runtime policy that judged the entries before `nextEntry`: under another one they count for nothing. */
  readonly policyChecksum?: string;
  /** Signing keys that the machine's kernel loaded before `nextEntry`, and the devices that it set up. */
  readonly learnedKeyrings?: LearnedKeyrings;
  readonly devices?: DmState;
  /** Key of the boot that was judged last and accepted; see `BootQuestion`. */
  readonly boot?: string;
};

/** The same memory with the measurement list to be judged from its first entry on. */
export function fromFirstEntry(progress: Progress): Progress {
  const { clock, transportKeyPem, bootTime } = progress;
  return {
    nextEntry: 0,
    ...(clock && { clock }),
    ...(transportKeyPem !== undefined && { transportKeyPem }),
    ...(bootTime !== undefined && { bootTime }),
  };
}
