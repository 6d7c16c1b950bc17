import { readFile } from 'node:fs/promises';
import { AgentError } from './agent-error.ts';

/** Text of the file that `option` names. @throws AgentError `file_unreadable` */
export async function readFileOf(option: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AgentError(
      'file_unreadable',
      `${option}: ${path} cannot be read: correct the option, or put the file there.`,
      {
        cause,
      },
    );
  }
}

/** The same, of a file with certificates in PEM. @throws AgentError `file_unreadable`, `certificate_malformed` */
export async function readCertificatesOf(option: string, path: string): Promise<string> {
  const text = await readFileOf(option, path);
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  throw new AgentError('certificate_malformed', `${option}: there is no certificate in PEM in ${path}.`);
}
