import { type FileHandle, open } from 'node:fs/promises';
import { codeOf } from '@keylime/core/coded-error';
import { announcedSize, MAX_RESPONSE_BYTES, type Transport, TransportError } from './transport.ts';

/** What to do about a device that cannot be opened. */
export function deviceOpenError(path: string, cause: unknown): TransportError {
  switch (codeOf(cause)) {
    case 'ENOENT':
    case 'ENXIO':
    case 'ENODEV': {
      const advice =
        'enable the TPM in the firmware setup, load its driver, or name an emulator by TCTI=swtpm:host=H,port=P';
      return new TransportError('tpm_device_missing', `there is no TPM at ${path}: ${advice}`, { cause });
    }
    case 'EACCES':
    case 'EPERM': {
      const advice = 'add the user to group tss (usermod -aG tss USER) and log in again, or run as root';
      return new TransportError('tpm_device_permission', `no permission to open ${path}: ${advice}`, { cause });
    }
    case 'EBUSY': {
      const advice = 'another program has it open; use /dev/tpmrm0, which can be shared, or stop that program';
      return new TransportError('tpm_device_busy', `${path} is busy: ${advice}`, { cause });
    }
    default:
      return new TransportError('tpm_device_failed', `${path} cannot be opened: ${String(cause)}`, { cause });
  }
}

/** Reads a response whose size its header tells; newer kernels hand it out in pieces. */
async function readResponse(file: FileHandle): Promise<Buffer> {
  const buffer = Buffer.alloc(MAX_RESPONSE_BYTES);
  let filled = 0;
  for (;;) {
    const { bytesRead } = await file.read({ buffer, offset: filled, length: buffer.length - filled, position: null });
    filled += bytesRead;
    const size = announcedSize(buffer.subarray(0, filled));
    if (size !== undefined && size <= filled) return buffer.subarray(0, size);
    if (bytesRead === 0) throw new TransportError('tpm_response_malformed', `response ends after ${filled} bytes`);
  }
}

/**
 * A TPM character device of Linux, `/dev/tpmrm0` or `/dev/tpm0` (drivers/char/tpm/tpm-dev-common.c): one write() per
 * command, then read(). The kernel works inside write(), so it runs in Node's thread pool. Objects and sessions of
 * `/dev/tpmrm0` live until `close`.
 * @throws TransportError with what to do if the device cannot be opened.
 */
export async function openDevice(path: string): Promise<Transport> {
  const file = await open(path, 'r+').catch((cause: unknown) => {
    throw deviceOpenError(path, cause);
  });
  return {
    name: path,
    async transmit(command) {
      try {
        await file.write(command, 0, command.length, null);
        return await readResponse(file);
      } catch (cause) {
        if (cause instanceof TransportError) throw cause;
        if (codeOf(cause) === 'EBUSY') throw deviceOpenError(path, cause);
        throw new TransportError('tpm_device_failed', `${path} failed: ${String(cause)}`, { cause });
      }
    },
    close: () => file.close(),
  };
}
