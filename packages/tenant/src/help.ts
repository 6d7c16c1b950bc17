import { COMMANDS } from './commands.ts';
import { OPTIONS, type Option } from './options.ts';

const WIDTH = 34;

const entry = (term: string, text: string): string =>
  term.length < WIDTH - 2 ? `  ${term.padEnd(WIDTH - 2)}${text}` : `  ${term}\n${' '.repeat(WIDTH)}${text}`;

const optionTerm = ({ flags, metavar }: Option): string => flags.join(', ') + (metavar ? ` ${metavar}` : '');

const optionHelp = ({ help, unsupported }: Option): string =>
  unsupported ? `${help} (not supported by this version yet)` : help;

export const USAGE = 'usage: keylime_tenant [-h] [--version] [-c COMMAND] [-u ID] [options]';

/** The text of `--help`, made of the tables of commands and options. */
export const helpText = (): string =>
  [
    USAGE,
    '',
    'Enrols agents at a Keylime verifier, and shows and changes what verifier and registrar know of them.',
    '',
    'commands:',
    ...Object.entries(COMMANDS).map(([name, { help }]) => entry(name, help)),
    '',
    'options:',
    ...Object.values(OPTIONS as { readonly [name: string]: Option }).map((one) =>
      entry(optionTerm(one), optionHelp(one)),
    ),
    '',
    'Addresses and certificates come from /etc/keylime/tenant.conf or the file that KEYLIME_TENANT_CONFIG names.',
    'exit codes: 0 done; 1 refused or failed, with one line that says why; 2 the command line is wrong.',
  ].join('\n');
