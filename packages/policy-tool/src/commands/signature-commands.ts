import { type Command, Option } from 'commander';
import { writeArtifact } from '../files.ts';
import { readPolicy } from '../policy-file.ts';
import { type SignOptions, signRuntimePolicy } from '../sign-policy.ts';
import { ToolError } from '../tool-error.ts';
import { type Answers, addCommand, each, type Keys, type Output, type Verbose, verboseOption } from './command-line.ts';

/** `sign runtime`. */
export function addSignRuntime(sign: Command, { stdout, now, logOf }: Answers): void {
  verboseOption(addCommand(sign, 'runtime', 'sign a runtime policy: a DSSE envelope'))
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
}

/** `verify`. */
export function addVerify(program: Command, { stdout, logOf }: Answers): void {
  verboseOption(addCommand(program, 'verify', 'check the signature and the content of a signed policy'))
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
}
