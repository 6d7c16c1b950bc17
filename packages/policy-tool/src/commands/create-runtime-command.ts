import { DIGEST_SIZES } from '@keylime/core/digest';
import { type Command, Option } from 'commander';
import { type CreateOptions, createRuntimePolicy } from '../create-runtime.ts';
import { writeArtifact } from '../files.ts';
import { KERNEL_LIST } from '../measurement-list.ts';
import { openProgress } from '../progress.ts';
import { type Answers, addCommand, each, type Output, positive, type Verbose, verboseOption } from './command-line.ts';

type Options = Omit<CreateOptions, 'imaMeasurementList'> &
  Verbose &
  Output & {
    /** `true` where the option has no file. */
    readonly imaMeasurementList?: string | true;
  };

/** `create runtime`. */
export function addCreateRuntime(create: Command, { stdout, stderr, env, now, logOf }: Answers): void {
  const runtime = addCommand(create, 'runtime', 'create a runtime policy from any of these sources, merged');
  verboseOption(createOptions(runtime)).action(async ({ imaMeasurementList, ...options }: Options) => {
    const list = imaMeasurementList === true ? KERNEL_LIST : imaMeasurementList;
    const progress = openProgress(stderr);
    const write = (line: string) => {
      // The bar makes room, and is drawn again below.
      progress.stop();
      return stderr.write(line);
    };
    const text = await createRuntimePolicy(
      { ...options, ...(list !== undefined && { imaMeasurementList: list }) },
      { log: logOf(options, { write }), progress, env, now },
    );
    writeArtifact(options.output, text, stdout);
  });
}

function createOptions(to: Command): Command {
  return to
    .option('-o, --output <file>', 'where the policy goes (default: stdout)')
    .option('-p, --base-policy <file>', 'policy to add to')
    .option('-a, --allowlist <file>', 'lines of digest and path')
    .option('-e, --excludelist <file>', 'exclude list, one regular expression a line')
    .option('-m, --ima-measurement-list [file]', `measurement list, ASCII or binary (without a file: ${KERNEL_LIST})`)
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
    .option('--rpm-package <names>', 'only these RPM packages, separated by commas (repeatable)', each)
    .option('--rpm-unsigned-metadata', 'it is enough if every package is signed with --rpm-key, and not the repository')
    .option(
      '--deb <source>',
      "Debian packages: 'installed', 'installed:ROOT', a .deb file, a directory of them, a repository " +
        "'ADDRESS SUITE COMPONENT...', or a file of apt with such, .list or .sources (repeatable)",
      each,
    )
    .option('--deb-keyring <file>', 'OpenPGP keys that Debian repositories must be signed with (repeatable)', each)
    .option('--deb-arch <architecture>', "Debian's name of the architecture (default: this machine's)")
    .option('--deb-package <names>', 'only these Debian packages, separated by commas (repeatable)', each)
    .option('--deb-accept-expired', 'take signed Debian repositories that are out of date, such as snapshots')
    .option(
      '--oci <image>',
      'OCI image layout: a directory or a tar archive, with :NAME for one of several images (repeatable)',
      each,
    )
    .option('--oci-platform <os/arch>', "platform of an image for several (default: this machine's)")
    .option('--max-workers <number>', 'downloads at the same time', positive, 8)
    .option('--threads <number>', 'threads that hash (default: one for each processor)', positive)
    .option('--cache <file>', 'digests of files that did not change (default: $XDG_CACHE_HOME/keylime-policy/digests)')
    .option('--no-cache', 'digest every file')
    .option('--fail-on-skip', 'write nothing if a file or an entry could not be taken')
    .option('--show-legacy-allowlist', 'print digests and paths instead of a policy');
}
