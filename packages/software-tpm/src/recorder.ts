import { appendFile, readFile } from 'node:fs/promises';
import { digest, type HashAlgorithm } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import { extendPcr, readPcrs } from '@keylime/tpm/pcr';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm } from '@keylime/tpm/tpm';

/** Measures files as the kernel's IMA would: first into the list, then into PCR 10 of the TPM. */
export type MeasurementRecorder = {
  /** Measures a file under `path`, the name that it has on the machine. */
  readonly measure: (path: string, file: string) => Promise<void>;
  readonly close: () => Promise<void>;
};

const IMA_PCR = 10;
/** Of the digests in the list. */
const FILE_HASH: HashAlgorithm = 'sha256';
const BOOT_PCRS = 0x3ff;

/**
 * Opens a recorder on a TPM that was just booted; the list starts with the boot aggregate over PCRs 0 to 9.
 * @param banks the TPM's active banks, all of which are extended
 * @param logHashAlgorithm of the list's file, which newer kernels have one for each bank of
 */
export async function openRecorder(
  tcti: string,
  listFile: string,
  banks: readonly HashAlgorithm[] = [FILE_HASH],
  logHashAlgorithm: HashAlgorithm = 'sha1',
): Promise<MeasurementRecorder> {
  const tpm = await openTpm({ transport: await openTransport(tcti) });
  async function record(path: string, fileDigest: Uint8Array): Promise<void> {
    const measurement = recordImaNg(path, FILE_HASH, fileDigest, logHashAlgorithm);
    await appendFile(listFile, measurement.line);
    const digests = banks.map((bank) => ({ bank, digest: measurement.extendValue(bank) }));
    await extendPcr(tpm, IMA_PCR, digests);
  }
  const boot = await readPcrs(tpm, FILE_HASH, BOOT_PCRS);
  await record('boot_aggregate', digest(FILE_HASH, ...[...boot].sort(([a], [b]) => a - b).map(([, value]) => value)));
  return {
    measure: async (path, file) => record(path, digest(FILE_HASH, await readFile(file))),
    close: () => tpm.close(),
  };
}
