import { decodeEventLog, LARGEST_LOG } from '@keylime/event-log/decode';
import type { EventLog } from '@keylime/event-log/event';
import { readInput } from '../files.ts';
import { ToolError } from '../tool-error.ts';

/** Where the kernel shows the log of this machine's boot; only root can read it. */
export const KERNEL_EVENT_LOG = '/sys/kernel/security/tpm0/binary_bios_measurements';

/**
 * Reads a boot event log as the kernel shows it. Nothing of the result is verified, and parts of it may be unreadable: see
 * `problems` of the result.
 * @throws ToolError `file_unreadable`, `event_log_invalid` if there is no log in the file
 */
export async function readEventLog(file: string): Promise<EventLog> {
  const log = decodeEventLog(await readLog(file));
  const [first] = log.problems;
  if (log.events.length > 0 || first === undefined) return log;
  throw new ToolError(
    'event_log_invalid',
    `${file} is no boot event log (${first.problem}): ${LARGEST_LOG} bytes at most, as in ${KERNEL_EVENT_LOG}, are wanted`,
  );
}

async function readLog(file: string): Promise<Buffer> {
  try {
    return await readInput(file, 'boot event log');
  } catch (error) {
    if (!(error instanceof ToolError) || file !== KERNEL_EVENT_LOG) throw error;
    const hint = 'it is there for root, with a TPM and a mounted securityfs; name a copy of the log to use that';
    throw new ToolError(error.code, `${error.message} (${hint})`, { cause: error });
  }
}
