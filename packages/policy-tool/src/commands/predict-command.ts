import { DIGEST_SIZES, type HashAlgorithm } from '@keylime/core/digest';
import { type Command, InvalidArgumentError } from 'commander';
import { writeArtifact } from '../files.ts';
import { addPrediction, referenceText } from '../measured-boot/create-measured-boot.ts';
import { KERNEL_EVENT_LOG, readEventLog } from '../measured-boot/event-log-file.ts';
import { readUpdate, type UpdateOptions } from '../measured-boot/kernel-update.ts';
import { predictBoot } from '../measured-boot/predict.ts';
import {
  type PredictionReport,
  predictionLines,
  reportPrediction,
  reportUnifiedKernel,
} from '../measured-boot/prediction-report.ts';
import { readReference } from '../measured-boot/reference-file.ts';
import { ToolError } from '../tool-error.ts';
import { type Answers, addCommand, each, type Json, type Output, type Verbose, verboseOption } from './command-line.ts';
import { type ReferenceCommandOptions, readReferenceOptions, referenceOptions } from './reference-options.ts';

type PredictOptions = UpdateOptions &
  ReferenceCommandOptions &
  Json &
  Verbose &
  Output & { readonly eventlogFile: string; readonly log: boolean; readonly referenceState?: string };

/** The banks that a TPM may have. */
const BANKS = (Object.keys(DIGEST_SIZES) as HashAlgorithm[]).filter((bank) => bank !== 'sm3_256');

/** `predict`. */
export function addPredict(program: Command, answers: Answers): void {
  const command = addCommand(
    program,
    'predict',
    'tell the PCR values that a planned update of the boot chain will lead to',
  );
  verboseOption(referenceOptions(command))
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
    .option('-r, --reference-state <file>', 'reference state to add the expected boot to, for --output')
    .option('-o, --output <file>', 'where the reference state with the expected boot goes')
    .action(async (options: PredictOptions) => runPredict(options, answers));
}

async function runPredict(options: PredictOptions, { printJson, printPainted, stdout, logOf }: Answers): Promise<void> {
  const { eventlogFile, log, json, output, referenceState } = options;
  if ((output === undefined) !== (referenceState === undefined)) {
    throw new ToolError('usage', '--reference-state and --output are of use together');
  }
  const update = await readUpdate(options);
  const { unifiedKernel } = update;
  if (!log) {
    if (unifiedKernel === undefined || output !== undefined) {
      throw new ToolError('usage', '--no-log is for --uki, and for no reference state');
    }
    show(reportUnifiedKernel(unifiedKernel, BANKS));
    return;
  }
  const prediction = predictBoot(await readEventLog(eventlogFile), update);
  if (output !== undefined && referenceState !== undefined) {
    const base = await readReference(referenceState, options.policy);
    const reference = addPrediction(base, prediction, readReferenceOptions(options), logOf(options));
    writeArtifact(output, referenceText(reference), stdout);
  }
  if (output !== '-') show(reportPrediction(prediction, unifiedKernel));

  function show(report: PredictionReport): void {
    if (json) printJson(report);
    else printPainted((paint) => predictionLines(report, paint));
  }
}

/** @throws InvalidArgumentError */
function wholeNumber(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 0 to 999 is wanted.');
}
