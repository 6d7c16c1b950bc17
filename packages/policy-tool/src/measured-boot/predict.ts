import type { HashAlgorithm } from '@keylime/core/digest';
import { decodeEventLog } from '@keylime/event-log/decode';
import type { EventLog } from '@keylime/event-log/event';
import { type ReplayedPcrs, replayEventLog } from '@keylime/event-log/replay';
import { ToolError } from '../tool-error.ts';
import { type BootChain, readBootChain } from './boot-chain.ts';
import { viewEvents } from './event-view.ts';
import type { KernelUpdate } from './kernel-update.ts';
import { editedLog, type LogEdit, openEdit } from './log-edit.ts';
import { predictFiles } from './predict-files.ts';
import { predictGrub } from './predict-grub.ts';
import { changeLoadOptions, changeStubCommandLine } from './predict-stub.ts';
import { predictUnified } from './predict-unified.ts';

/** The boot that is expected after an update. */
export type Prediction = {
  readonly edit: LogEdit;
  /** The log of that boot, to show and to make a reference state of. Wrong where PCRs are `unknown`. */
  readonly log: EventLog;
  readonly current: ReadonlyMap<HashAlgorithm, ReplayedPcrs>;
  readonly expected: ReadonlyMap<HashAlgorithm, ReplayedPcrs>;
};

/**
 * Puts an update into the log of the boot of now, event by event; the rest stays as it is. Every rule first has to explain
 * what the log has now; where it does not, or where the machine will decide, the PCR is unknown, with the reason.
 * @throws ToolError `usage`, `log_unsuitable`
 */
export function predictBoot(log: EventLog, update: KernelUpdate): Prediction {
  const [problem] = log.problems.filter(({ kind }) => kind !== 'data_malformed');
  if (problem !== undefined) {
    const place = `event ${problem.index} at byte ${problem.offset}`;
    throw new ToolError(
      'log_unsuitable',
      `The log is damaged (${place}: ${problem.problem}): nothing can be predicted from it`,
    );
  }
  const edit = openEdit(log);
  const views = viewEvents(log);
  const chain = readBootChain(views);
  requireKind(chain, update);
  if (update.unifiedKernel !== undefined) predictUnified(edit, chain, update, update.unifiedKernel);
  predictFiles(edit, views, chain, update);
  const isGrub = chain.commandLines.some(({ event }) => event.event.pcr === GRUB_PCR && event.coverage === 'text');
  if (isGrub) predictGrub(edit, views, chain, update);
  else if (update.unifiedKernel === undefined) predictCommandLine(edit, chain, update);
  const expectedLog = decodeEventLog(editedLog(edit));
  return { edit, log: expectedLog, current: replayEventLog(log), expected: replayEventLog(expectedLog) };
}

const GRUB_PCR = 8;

function requireKind(chain: BootChain, { kernel, initrds, unifiedKernel }: KernelUpdate): void {
  const isUnified = chain.sections.length > 0;
  if (unifiedKernel !== undefined && !isUnified) {
    throw new ToolError(
      'log_unsuitable',
      'The log is of a boot without a unified kernel image: what else --uki will change cannot be told; --no-log gives its PCR 11',
    );
  }
  if (isUnified && (kernel !== undefined || initrds.length > 0)) {
    throw new ToolError('usage', 'The log is of a boot from a unified kernel image: name the new one with --uki');
  }
}

/** The command line that the firmware or systemd-boot passes to a kernel. */
function predictCommandLine(edit: LogEdit, chain: BootChain, { commandLine, currentCommandLine }: KernelUpdate): void {
  if (commandLine === undefined) return;
  const logged = chain.commandLines.filter(({ text }) => text !== undefined);
  for (const { event } of logged) changeLoadOptions(edit, event, commandLine);
  if (chain.commandLines.length === 0) {
    throw new ToolError(
      'log_unsuitable',
      'The log shows no command line: a change of it changes no PCR that can be told',
    );
  }
  changeStubCommandLine(edit, chain, logged.at(-1)?.text ?? currentCommandLine, commandLine);
}
