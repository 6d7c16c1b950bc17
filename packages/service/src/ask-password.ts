import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ReadStream, WriteStream } from 'node:tty';

/** Nobody can be asked, or nobody answered. */
export class PasswordError extends Error {
  override readonly name = 'PasswordError';
  readonly code = 'no_password';
}

const [CTRL_C, CTRL_D, CTRL_U, BACKSPACE, DELETE] = ['\x03', '\x04', '\x15', '\b', '\x7f'];

/**
 * Asks for a password on the terminal of this process, without showing what is typed; without a terminal the first line of
 * stdin is taken, and the question goes to stderr. May be empty.
 * @throws PasswordError if it was broken off, or stdin has no line
 */
export async function askPassword(question: string): Promise<string> {
  const terminal = openTerminal();
  return terminal === undefined ? askInput(question) : askTerminal(question, terminal);
}

function openTerminal(): number | undefined {
  try {
    return openSync('/dev/tty', 'r+');
  } catch {
    return undefined; // a service, a job of cron, a container
  }
}

async function askTerminal(question: string, fd: number): Promise<string> {
  const input = new ReadStream(fd);
  const output = new WriteStream(fd);
  try {
    input.setRawMode(true);
    // Only now, so that a program that answers the question is not echoed.
    output.write(question);
    return await typedLine(input);
  } finally {
    input.setRawMode(false);
    output.write('\n');
    input.destroy();
    output.destroy();
    try {
      closeSync(fd);
    } catch {
      // The streams have closed it.
    }
  }
}

function typedLine(input: ReadStream): Promise<string> {
  return new Promise((resolve, reject) => {
    let typed = '';
    input.setEncoding('utf8');
    input.on('error', reject);
    input.on('data', (chunk) => {
      for (const character of String(chunk)) {
        if (character === '\r' || character === '\n') return resolve(typed);
        if (character === CTRL_C || (character === CTRL_D && typed === '')) {
          return reject(new PasswordError('Broken off: no password was given.'));
        }
        if (character === CTRL_U) typed = '';
        else if (character === BACKSPACE || character === DELETE) typed = [...typed].slice(0, -1).join('');
        else if (character >= ' ') typed += character;
      }
    });
  });
}

async function askInput(question: string): Promise<string> {
  process.stderr.write(question);
  const lines = createInterface({ input: process.stdin });
  try {
    for await (const line of lines) return line;
  } finally {
    lines.close();
    process.stderr.write('\n');
  }
  throw new PasswordError('There is no terminal to ask for the password at, and nothing on stdin.');
}
