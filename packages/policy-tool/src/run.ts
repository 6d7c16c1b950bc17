import { escapeControls } from '@keylime/service/log';
import { Command, CommanderError } from 'commander';
import { type Answers, addCommand, type Environment, openAnswers } from './commands/command-line.ts';
import { addCreateMeasuredBoot } from './commands/create-measured-boot-command.ts';
import { addCreateRuntime } from './commands/create-runtime-command.ts';
import { addShowEventLog } from './commands/measured-boot-commands.ts';
import { addCheck, addConvert, addDiff, addShow } from './commands/policy-commands.ts';
import { addPredict } from './commands/predict-command.ts';
import { addSignRuntime, addVerify } from './commands/signature-commands.ts';
import { ToolError } from './tool-error.ts';

/** Runs one command line; the exit code: 0 done, 1 failed or refused, 2 usage. Throws only for our mistakes. */
export async function run(argv: readonly string[], environment: Environment): Promise<number> {
  let code = 0;
  const program = buildProgram(
    openAnswers(environment, () => {
      code = 1;
    }),
  );
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync([...argv], { from: 'user' });
    return code;
  } catch (error) {
    // Help and version are no failures; all else that commander throws is a wrong command line.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof ToolError)) throw error;
    environment.stderr.write(`keylime-policy: ${escapeControls(error.message)}\n`);
    if (error.code === 'algorithm_mismatch') environment.stderr.write('keylime-policy: Aborting operation\n');
    return error.code === 'usage' ? 2 : 1;
  }
}

function buildProgram(answers: Answers): Command {
  const { stdout, stderr, version } = answers;
  const program = new Command('keylime-policy')
    .description('Makes, signs, compares and tries policies: what machines may boot and run.')
    .version(`keylime-policy ${version}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    .configureOutput({ writeOut: (text) => void stdout.write(text), writeErr: (text) => void stderr.write(text) })
    .showHelpAfterError('(keylime-policy --help lists the commands, COMMAND --help the options)');

  const create = addCommand(program, 'create', 'create a policy');
  addCreateRuntime(create, answers);
  addCreateMeasuredBoot(create, answers);
  const sign = addCommand(program, 'sign', 'sign a policy');
  addSignRuntime(sign, answers);
  addVerify(program, answers);
  addConvert(program, answers);
  addDiff(program, answers);
  addCheck(program, answers);
  addShowEventLog(addShow(program, answers), answers);
  addPredict(program, answers);
  return program;
}
