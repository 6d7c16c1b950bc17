// Programs import this first: what comes after is TypeScript, which older versions of Node cannot run.
import module from 'node:module';
import { fileURLToPath } from 'node:url';

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(`Node.js 22.18 or newer is needed, this is ${process.versions.node} (${process.execPath}).\n`);
  process.exit(1);
}

// Compiled code is kept beside the npm packages, by whoever may write there: programs start in half the time.
// Never in the folder for temporary files, where others could leave code for root to run.
module.enableCompileCache?.(fileURLToPath(new URL('../../../node_modules/.cache/keylime', import.meta.url)));
