import type { HashAlgorithm } from '@keylime/core/digest';
import { decodeEventLog } from '@keylime/event-log/decode';
import { Shutdown } from '@keylime/tpm/commands';
import { extendPcr } from '@keylime/tpm/pcr';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm } from '@keylime/tpm/tpm';

/** PCR banks that firmware of these days uses: for `encodeEventLog`, and for the TPM that is to have been booted. */
export const BOOT_BANKS = ['sha1', 'sha256', 'sha384'] as const satisfies readonly HashAlgorithm[];

/**
 * Extends the PCRs of a TPM that was just reset as a boot event log (`binary_bios_measurements`) says, a real one or one of
 * `bootEvents`. Whoever tells lies about a boot serves another log than this one.
 * @param tcti as in the variable TCTI.
 * @throws TpmError if the TPM has no such PCR bank as the log; Error if the log cannot be read.
 */
export async function measureBoot(tcti: string, log: Uint8Array): Promise<void> {
  const { events, problems } = decodeEventLog(log);
  const [unreadable] = problems.filter(({ kind }) => kind !== 'data_malformed');
  if (unreadable !== undefined) throw new Error(`boot event log at byte ${unreadable.offset}: ${unreadable.problem}`);
  const tpm = await openTpm({ transport: await openTransport(tcti) });
  try {
    for (const { type, pcr, digests } of events) {
      if (type === 'EV_NO_ACTION' || digests.size === 0) continue;
      await extendPcr(
        tpm,
        pcr,
        Array.from(digests, ([bank, hex]) => ({ bank, digest: Buffer.from(hex, 'hex') })),
      );
    }
  } finally {
    await tpm.close();
  }
}

/**
 * Tells the TPM that its machine is switched off in good order, as Linux does: its clock goes on from there at the next
 * start. Without it the start is one after a power failure.
 */
export async function shutDown(tcti: string): Promise<void> {
  const tpm = await openTpm({ transport: await openTransport(tcti) });
  try {
    await tpm.run(Shutdown, { parameters: { shutdownType: 'clear' } });
  } finally {
    await tpm.close();
  }
}
