import type { Command } from 'commander';
import { KERNEL_EVENT_LOG, readEventLog } from '../measured-boot/event-log-file.ts';
import { eventLogLines, reportEventLog } from '../measured-boot/show-event-log.ts';
import { type Answers, addCommand, type Json } from './command-line.ts';

/** `show event-log`. */
export function addShowEventLog(show: Command, { printJson, printPainted }: Answers): void {
  addCommand(
    show,
    'event-log',
    'show a boot event log: what was measured, what of it the digests cover, Secure Boot, boot chain',
  )
    .argument('[file]', 'boot event log', KERNEL_EVENT_LOG)
    .option('--pcrs', 'show the PCR values that the log leads to, too')
    .option('--json', 'print JSON, with all of this')
    .action(async (file: string, _options: object, command: Command) => {
      // `show` has an option --json, too, and takes it wherever it stands.
      const { json, pcrs } = command.optsWithGlobals<Json & { readonly pcrs?: boolean }>();
      const report = reportEventLog(await readEventLog(file));
      if (json) printJson(report);
      else printPainted((paint) => eventLogLines(report, paint, pcrs ?? false));
    });
}
