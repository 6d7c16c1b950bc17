import { type Command, Option } from 'commander';
import { type BootAggregateOptions, readBootAggregates } from '../boot-aggregates.ts';
import { checkList, failureLine } from '../check-list.ts';
import { type ConvertOptions, convertLegacy } from '../convert-policy.ts';
import { writeArtifact } from '../files.ts';
import { KERNEL_LIST, readMeasurementList } from '../measurement-list.ts';
import { diffLines, diffPolicies, isSame } from '../policy-diff.ts';
import { readPolicy } from '../policy-file.ts';
import { policySummary, summaryLines } from '../policy-summary.ts';
import { ToolError } from '../tool-error.ts';
import { readVerificationKeys } from '../verification-keys.ts';
import {
  type Answers,
  addCommand,
  each,
  type Json,
  type Keys,
  keyOption,
  type Output,
  type Verbose,
  verboseOption,
} from './command-line.ts';

/** `convert`. */
export function addConvert(program: Command, { stdout, now, logOf }: Answers): void {
  const convert = addCommand(
    program,
    'convert',
    'make a runtime policy of an allowlist or of a policy of an older version',
  );
  verboseOption(convert)
    .option('-a, --allowlist <file>', 'lines of digest and path, or JSON with `hashes`')
    .option('-r, --runtime-policy <file>', 'policy of an older version, or one to add to')
    .option('-e, --excludelist <file>', 'exclude list to add, one regular expression a line')
    .option('--verification-key <file>', 'key for signatures of files to add (repeatable)', each)
    .option('-o, --output <file>', 'where the policy goes (default: stdout)')
    .action(async (options: ConvertOptions & Verbose & Output) => {
      writeArtifact(options.output, await convertLegacy(options, now(), logOf(options)), stdout);
    });
}

/** `diff`. */
export function addDiff(program: Command, { print, printJson, refuse }: Answers): void {
  keyOption(addCommand(program, 'diff', 'show what a new policy allows and forbids against an old one'))
    .argument('<old>', 'policy')
    .argument('<new>', 'policy')
    .option('--json', 'print JSON')
    .option('--exit-code', 'exit with 1 if the policies differ')
    .action(async (oldFile: string, newFile: string, options: Keys & Json & { readonly exitCode?: boolean }) => {
      const diff = diffPolicies(await readPolicy(oldFile, options.key), await readPolicy(newFile, options.key));
      if (options.json) printJson(diff);
      else {
        print(diffLines(diff));
        print([`${diff.allowed.length} digests allowed, ${diff.forbidden.length} no longer`]);
      }
      if (options.exitCode && !isSame(diff)) refuse();
    });
}

type CheckOptions = Keys &
  Json &
  BootAggregateOptions & { readonly violations: 'accept' | 'fail'; readonly verificationKey?: readonly string[] };

/** `check`. */
export function addCheck(program: Command, { print, printJson, refuse }: Answers): void {
  keyOption(addCommand(program, 'check', 'judge a measurement list by a policy; exit with 1 if it would be refused'))
    .argument('<policy>', 'policy')
    .argument('[list]', 'measurement list, ASCII or binary', KERNEL_LIST)
    .addOption(
      new Option('--violations <rule>', 'files that changed while they were measured')
        .choices(['accept', 'fail'])
        .default('accept'),
    )
    .option(
      '--verification-key <file>',
      "key for signatures of files that the enrolment names, instead of the policy's (repeatable)",
      each,
    )
    .option('--boot-aggregate <hex>', 'boot aggregate that is right, if the policy names none (repeatable)', each)
    .option('--pcrs <file>', 'values of PCRs 0 to 9 that it is worked out from, as tpm2_pcrread prints them')
    .option('--event-log <file>', 'boot event log that these are worked out from')
    .option('--json', 'print JSON')
    .action(async (file: string, listFile: string, options: CheckOptions) => {
      const { policy } = await readPolicy(file, options.key);
      const { lines, isBigEndian } = await readMeasurementList(listFile);
      if (isBigEndian) {
        const message = `${listFile} is of a big-endian kernel: verifiers cannot replay its hashes, boot with ima_canonical_fmt`;
        throw new ToolError('list_invalid', message);
      }
      const bootAggregates = await readBootAggregates(options);
      const result = checkList(lines, {
        policy,
        violations: options.violations,
        ...(bootAggregates && { bootAggregates }),
        ...(options.verificationKey && { verificationKeys: await readVerificationKeys(options.verificationKey) }),
      });
      const { entryCount, violationCount, bootAggregateJudged, failures } = result;
      if (options.json) printJson({ accepted: failures.length === 0, ...result });
      else {
        print(failures.map(failureLine));
        if (!bootAggregateJudged) print([UNJUDGED_BOOT]);
        print([`${entryCount} entries, ${violationCount} violations, ${failures.length} failures`]);
      }
      if (failures.length > 0) refuse();
    });
}

const UNJUDGED_BOOT =
  'boot_aggregate was not judged: the policy names none, so the verifier works it out from the quoted PCRs 0 to 9; give --pcrs, --event-log or --boot-aggregate';

/** `show`. */
export function addShow(program: Command, { print, printJson }: Answers): Command {
  return keyOption(addCommand(program, 'show', 'summarise a policy'))
    .argument('<policy>', 'policy')
    .option('--json', 'print JSON')
    .action(async (file: string, options: Keys & Json) => {
      const summary = policySummary(await readPolicy(file, options.key));
      if (options.json) printJson(summary);
      else print(summaryLines(summary));
    });
}
