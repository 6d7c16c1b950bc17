import { DIGEST_SIZES } from '@keylime/core/digest';
import { type Log, openLog } from '@keylime/service/log';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { checkList, failureLine } from './check-list.ts';
import { type ConvertOptions, convertLegacy } from './convert-policy.ts';
import { type CreateOptions, createRuntimePolicy } from './create-runtime.ts';
import { readInput, type Writer, writeArtifact } from './files.ts';
import { KERNEL_LIST } from './measured-files.ts';
import { diffLines, diffPolicies, isSame } from './policy-diff.ts';
import { readPolicy } from './policy-file.ts';
import { policySummary, summaryLines } from './policy-summary.ts';
import { openProgress } from './progress.ts';
import { type SignOptions, signRuntimePolicy } from './sign-policy.ts';
import { ToolError } from './tool-error.ts';

/** The process around the command. */
export type Environment = {
  readonly env: { readonly [name: string]: string | undefined };
  readonly stdout: Writer;
  readonly stderr: Writer & { readonly isTTY?: boolean; readonly columns?: number };
  readonly version: string;
  readonly now: () => Date;
};

/** Runs one command line; the exit code: 0 done, 1 failed or refused, 2 usage. Throws only for our mistakes. */
export async function run(argv: readonly string[], environment: Environment): Promise<number> {
  const outcome = { code: 0 };
  const program = buildProgram(environment, outcome);
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync([...argv], { from: 'user' });
    return outcome.code;
  } catch (error) {
    // Help and version are no failures; all else that commander throws is a wrong command line.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof ToolError)) throw error;
    environment.stderr.write(`keylime-policy: ${error.message}\n`);
    if (error.code === 'algorithm_mismatch') environment.stderr.write('keylime-policy: Aborting operation\n');
    return error.code === 'usage' ? 2 : 1;
  }
}

const each = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

function positive(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0 && value <= 1024) return value;
  throw new InvalidArgumentError('A number from 1 to 1024 is wanted.');
}

type Verbose = { readonly verbose?: boolean };
type Output = { readonly output?: string };
type Json = { readonly json?: boolean };
type Keys = { readonly key?: readonly string[] };

function buildProgram(environment: Environment, outcome: { code: number }): Command {
  const { stdout, stderr, env, now } = environment;
  const logOf = ({ verbose }: Verbose): Log =>
    openLog({
      name: 'keylime.policy',
      level: verbose ? 'debug' : 'info',
      destination: stderr,
      now: () => now().getTime(),
    });
  const print = (lines: readonly string[]) => void stdout.write(lines.map((line) => `${line}\n`).join(''));
  const printJson = (value: object) => print([JSON.stringify(value, undefined, 2)]);

  const program = new Command('keylime-policy')
    .description('Makes, signs, compares and tries runtime policies: what machines may run.')
    .version(`keylime-policy ${environment.version}`, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .exitOverride()
    .configureOutput({ writeOut: (text) => void stdout.write(text), writeErr: (text) => void stderr.write(text) })
    .showHelpAfterError('(keylime-policy --help lists the commands, COMMAND --help the options)');

  const command = (parent: Command, name: string, description: string): Command =>
    parent.command(name).description(description).helpOption('-h, --help', 'print this help');
  const verbose = (to: Command): Command => to.option('-v, --verbose', 'log details, too');
  const keyOption = (to: Command): Command =>
    to.option(
      '-k, --key <file>',
      'public key or certificate in PEM that a signed policy must be signed by (repeatable)',
      each,
    );

  const create = command(program, 'create', 'create a policy');
  verbose(
    createOptions(command(create, 'runtime', 'create a runtime policy from any of these sources, merged')),
  ).action(
    async (
      options: Omit<CreateOptions, 'imaMeasurementList'> & Verbose & Output & { imaMeasurementList?: string | true },
    ) => {
      const list = options.imaMeasurementList === true ? KERNEL_LIST : options.imaMeasurementList;
      const progress = openProgress(stderr);
      const text = await createRuntimePolicy(
        { ...options, ...(list !== undefined && { imaMeasurementList: list }) } as CreateOptions,
        { log: logOf(options), progress, env, now },
      );
      writeArtifact(options.output, text, stdout);
    },
  );

  const sign = command(program, 'sign', 'sign a policy');
  verbose(command(sign, 'runtime', 'sign a runtime policy: a DSSE envelope'))
    .requiredOption('-r, --runtime-policy <file>', 'policy to sign')
    .option('-o, --output <file>', 'where the signed policy goes (default: stdout)')
    .option('-k, --keyfile <file>', 'EC private key in PEM')
    .option('--key-password-file <file>', 'file with the password of an encrypted key')
    .option('-p, --keypath <file>', 'make a new key and write it here (default: keylime-ecdsa-key.pem)')
    .option('--public-key-outfile <file>', 'write the public key, by which the policy can be verified, here')
    .addOption(new Option('-b, --backend <kind>', 'what names the key').choices(['ecdsa', 'x509']).default('ecdsa'))
    .option('-c, --cert-outfile <file>', 'where the certificate of backend x509 goes')
    .action(async (options: SignOptions & Verbose & Output) => {
      writeArtifact(options.output, await signRuntimePolicy(options, now(), stdout, logOf(options)), stdout);
    });

  verbose(command(program, 'verify', 'check the signature and the content of a signed policy'))
    .argument('<policy>', 'signed policy')
    .requiredOption(
      '-k, --key <file>',
      'public key or certificate in PEM of a signer who is trusted (repeatable)',
      each,
    )
    .option('-o, --output <file>', 'write the policy without its envelope here (`-`: stdout)')
    .action(async (file: string, options: Keys & Verbose & Output) => {
      const { text, policy, isSigned } = await readPolicy(file, options.key);
      if (!isSigned) throw new ToolError('policy_signature', `${file} is not signed`);
      logOf(options).info('The signature is good', { policy: file, checksum: policy.checksum });
      if (options.output !== undefined) writeArtifact(options.output, text, stdout);
    });

  verbose(command(program, 'convert', 'make a runtime policy of an allowlist or of a policy of an older version'))
    .option('-a, --allowlist <file>', 'lines of digest and path, or JSON with `hashes`')
    .option('-r, --runtime-policy <file>', 'policy of an older version, or one to add to')
    .option('-e, --excludelist <file>', 'exclude list to add, one regular expression a line')
    .option('--verification-key <file>', 'key for signatures of files to add (repeatable)', each)
    .option('-o, --output <file>', 'where the policy goes (default: stdout)')
    .action(async (options: ConvertOptions & Verbose & Output) => {
      writeArtifact(options.output, await convertLegacy(options, now(), logOf(options)), stdout);
    });

  keyOption(command(program, 'diff', 'show what a new policy allows and forbids against an old one'))
    .argument('<old>', 'policy')
    .argument('<new>', 'policy')
    .option('--json', 'print JSON')
    .option('--exit-code', 'exit with 1 if the policies differ')
    .action(async (oldFile: string, newFile: string, options: Keys & Json & { exitCode?: boolean }) => {
      const diff = diffPolicies(await readPolicy(oldFile, options.key), await readPolicy(newFile, options.key));
      if (options.json) printJson(diff);
      else {
        print(diffLines(diff));
        print([`${diff.allowed.length} digests allowed, ${diff.forbidden.length} no longer`]);
      }
      if (options.exitCode && !isSame(diff)) outcome.code = 1;
    });

  keyOption(command(program, 'check', 'judge a measurement list by a policy; exit with 1 if it would be refused'))
    .argument('<policy>', 'policy')
    .argument('[list]', 'measurement list in ASCII', KERNEL_LIST)
    .addOption(
      new Option('--violations <rule>', 'files that changed while they were measured')
        .choices(['accept', 'fail'])
        .default('accept'),
    )
    .option('--json', 'print JSON')
    .action(async (file: string, listFile: string, options: Keys & Json & { violations: 'accept' | 'fail' }) => {
      const { policy } = await readPolicy(file, options.key);
      const result = checkList(await readInput(listFile, 'measurement list'), policy, options.violations);
      const { entryCount, violationCount, failures } = result;
      if (options.json) printJson({ accepted: failures.length === 0, ...result });
      else {
        print(failures.map(failureLine));
        print([`${entryCount} entries, ${violationCount} violations, ${failures.length} failures`]);
      }
      if (failures.length > 0) outcome.code = 1;
    });

  keyOption(command(program, 'show', 'summarise a policy'))
    .argument('<policy>', 'policy')
    .option('--json', 'print JSON')
    .action(async (file: string, options: Keys & Json) => {
      const summary = policySummary(await readPolicy(file, options.key));
      if (options.json) printJson(summary);
      else print(summaryLines(summary));
    });
  return program;
}

function createOptions(to: Command): Command {
  return to
    .option('-o, --output <file>', 'where the policy goes (default: stdout)')
    .option('-p, --base-policy <file>', 'policy to add to')
    .option('-a, --allowlist <file>', 'lines of digest and path')
    .option('-e, --excludelist <file>', 'exclude list, one regular expression a line')
    .option('-m, --ima-measurement-list [file]', `measurement list in ASCII (without a file: ${KERNEL_LIST})`)
    .option('-k, --keyrings', 'take keys that the measurement list shows into the keyrings of the policy')
    .option('-b, --ima-buf', 'take the other buffers that the measurement list shows')
    .option('--ignored-keyrings <name>', 'keyring whose keys are not judged (repeatable)', each)
    .option('--add-ima-signature-verification-key <file>', 'key for signatures of files (repeatable)', each)
    .addOption(
      new Option('--algo <algorithm>', 'digest algorithm (default: that of the other sources, or sha256)').choices(
        Object.keys(DIGEST_SIZES),
      ),
    )
    .option('--rootfs <directory>', 'root file system: regular files of root')
    .option('-s, --skip-path <paths>', 'directories of the root file system to leave out, separated by commas')
    .option('--any-owner', 'take files of the root file system whoever owns them')
    .option('--ramdisk-dir <directory>', 'directory of initial ramdisks (initr*), for example /boot')
    .option('--local-rpm-repo <directory>', 'RPM repository in a directory')
    .option('--remote-rpm-repo <url>', 'RPM repository on a server')
    .option('--rpm-key <file>', 'OpenPGP key that the RPM repository must be signed with (repeatable)', each)
    .option(
      '--deb <source>',
      "Debian packages: 'installed', 'installed:ROOT', a .deb file, a directory of them, or a repository " +
        "'ADDRESS SUITE COMPONENT...' (repeatable)",
      each,
    )
    .option('--deb-keyring <file>', 'OpenPGP keys that Debian repositories must be signed with (repeatable)', each)
    .option('--deb-arch <architecture>', "Debian's name of the architecture (default: this machine's)")
    .option('--deb-package <names>', 'only these packages, separated by commas (repeatable)', each)
    .option('--oci <image>', 'OCI image layout: a directory or a tar archive (repeatable)', each)
    .option('--oci-platform <os/arch>', "platform of an image for several (default: this machine's)")
    .option('--max-workers <number>', 'downloads at the same time', positive, 8)
    .option('--threads <number>', 'threads that hash (default: one for each processor)', positive)
    .option('--cache <file>', 'digests of files that did not change (default: $XDG_CACHE_HOME/keylime-policy/digests)')
    .option('--no-cache', 'digest every file')
    .option('--fail-on-skip', 'write nothing if a file or an entry could not be taken')
    .option('--show-legacy-allowlist', 'print digests and paths instead of a policy');
}
