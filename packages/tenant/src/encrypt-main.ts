import { stat } from 'node:fs/promises';
import { encryptToFiles } from './encrypt-file.ts';

const USAGE_EXIT = 255;

/** [compat] Texts and exit codes of the existing program. */
async function main([file, ...more]: readonly string[]): Promise<number> {
  if (file === '--help' || file === '-h') {
    process.stdout.write(
      'Usage: keylime_userdata_encrypt FILE\n\nEncrypts FILE for keylime_tenant -k content_keys.txt -p content_payload.txt.\n',
    );
    return 0;
  }
  if (file === undefined || more.length > 0) {
    process.stdout.write('Please pass in a file input file to encrypt\n');
    return USAGE_EXIT;
  }
  if (!(await stat(file).catch(() => undefined))?.isFile()) {
    process.stdout.write(`ERROR: File ${file} not found.\nPlease pass in a file input file to encrypt\n`);
    return USAGE_EXIT;
  }
  await encryptToFiles(file, process.cwd());
  process.stdout.write('Writing keys to content_keys.txt\nWriting encrypted data to content_payload.txt\n');
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`keylime_userdata_encrypt: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
