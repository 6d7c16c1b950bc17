// Programs import this first: what comes after is TypeScript, which older versions of Node cannot run.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(`Node.js 22.18 or newer is needed, this is ${process.versions.node} (${process.execPath}).\n`);
  process.exit(1);
}
