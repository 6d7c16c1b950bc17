import { DIGEST_SIZES, type HashAlgorithm } from '@keylime/core/digest';
import { type Command, InvalidArgumentError } from 'commander';
import { KERNEL_EVENT_LOG, readEventLog } from '../measured-boot/event-log-file.ts';
import { readUpdate, type UpdateOptions } from '../measured-boot/kernel-update.ts';
import { predictBoot } from '../measured-boot/predict.ts';
import { predictionLines, reportPrediction, reportUnifiedKernel } from '../measured-boot/prediction-report.ts';
import { printableJson } from '../measured-boot/printable.ts';
import { paintFor } from '../measured-boot/table.ts';
import { ToolError } from '../tool-error.ts';
import { type Answers, addCommand, each, type Json } from './command-line.ts';

type PredictOptions = UpdateOptions & Json & { readonly eventlogFile: string; readonly log: boolean };

/** The banks that a TPM may have. */
const BANKS = (Object.keys(DIGEST_SIZES) as HashAlgorithm[]).filter((bank) => bank !== 'sm3_256');

/** `predict`. */
export function addPredict(program: Command, { print, stdout, env }: Answers): void {
  addCommand(program, 'predict', 'tell the PCR values that a planned update of the boot chain will lead to')
    .option('-e, --eventlog-file <file>', 'boot event log of a boot before the update', KERNEL_EVENT_LOG)
    .option('--no-log', 'without a log: PCR 11 of a unified kernel image, nothing else')
    .option('--kernel <file>', 'kernel that will be installed')
    .option('--kernel-path <path>', 'where GRUB will find it, if that changes, as in its command linux')
    .option('--initrd <file>', 'initrd that will be installed (repeatable)', each)
    .option('--initrd-path <path>', 'where GRUB will find it, if that changes (repeatable)', each)
    .option('--cmdline <text>', 'command line that the kernel will be started with')
    .option('--current-cmdline <text>', 'command line of now, where the log has only its digest')
    .option('--uki <file>', 'unified kernel image that will be installed')
    .option('--profile <number>', 'profile of the unified kernel image', wholeNumber)
    .option('--shim <file>', 'shim that will be installed')
    .option('--boot-loader <file>', 'GRUB or other boot loader that will be installed')
    .option('--grub-file <path=file>', 'other file that GRUB reads at a path, grub.cfg for example (repeatable)', each)
    .option('--json', 'print JSON')
    .action(async ({ eventlogFile, log, json, ...options }: PredictOptions) => {
      const update = await readUpdate(options);
      const { unifiedKernel } = update;
      if (!log && unifiedKernel === undefined) throw new ToolError('usage', '--no-log is for --uki');
      const report =
        !log && unifiedKernel !== undefined
          ? reportUnifiedKernel(unifiedKernel, BANKS)
          : reportPrediction(predictBoot(await readEventLog(eventlogFile), update), unifiedKernel);
      print(json ? [printableJson(report)] : predictionLines(report, paintFor(stdout, env)));
    });
}

/** @throws InvalidArgumentError */
function wholeNumber(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 0 to 999 is wanted.');
}
