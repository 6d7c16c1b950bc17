import type { Command } from 'commander';
import { writeArtifact } from '../files.ts';
import { createMeasuredBoot, referenceText } from '../measured-boot/create-measured-boot.ts';
import { KERNEL_EVENT_LOG, readEventLog } from '../measured-boot/event-log-file.ts';
import { readReference } from '../measured-boot/reference-file.ts';
import { type Answers, addCommand, each, type Output, type Verbose, verboseOption } from './command-line.ts';
import { type ReferenceCommandOptions, readReferenceOptions, referenceOptions } from './reference-options.ts';

type CreateCommandOptions = ReferenceCommandOptions &
  Verbose &
  Output & {
    readonly eventlogFile?: readonly string[];
    readonly withoutSecureboot?: boolean;
    readonly base?: string;
  };

/** `create measured-boot`. */
export function addCreateMeasuredBoot(create: Command, { stdout, logOf }: Answers): void {
  const command = addCommand(
    create,
    'measured-boot',
    'create the reference state of a measured-boot policy from boot event logs',
  );
  verboseOption(referenceOptions(command))
    .option('-e, --eventlog-file <file>', `boot event log (repeatable; default: ${KERNEL_EVENT_LOG})`, each)
    .option('-i, --without-secureboot', 'take a log that says that Secure Boot is off')
    .option('-b, --base <file>', 'reference state to add to')
    .option('-o, --output <file>', 'where the reference state goes (default: stdout)')
    .action(async (options: CreateCommandOptions) => {
      const { eventlogFile = [KERNEL_EVENT_LOG], policy, base } = options;
      const log = logOf(options);
      const logs = await Promise.all(eventlogFile.map(async (name) => ({ name, log: await readEventLog(name) })));
      const reference = createMeasuredBoot(
        logs,
        {
          ...readReferenceOptions(options),
          withoutSecureBoot: options.withoutSecureboot ?? false,
          base: base === undefined ? undefined : await readReference(base, policy),
        },
        log,
      );
      if (options.withoutSecureboot && reference.has_secureboot) {
        log.warn('Secure Boot is on: --without-secureboot is not needed, and changes nothing');
      }
      writeArtifact(options.output, referenceText(reference), stdout);
    });
}
