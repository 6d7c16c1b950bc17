import { readInput } from '../files.ts';
import { isUrl } from '../repository-files.ts';
import { ToolError } from '../tool-error.ts';
import { type Paragraph, paragraphs } from './deb-control.ts';
import type { DebRepository } from './deb-repository.ts';

/**
 * A repository as a line of a `sources.list` names it, with or without `deb` in front. Of its options those count that say
 * what is wanted or who is believed: `arch` and `signed-by`. Source: sources.list(5).
 * @throws ToolError `usage`
 */
export function parseRepository(line: string): DebRepository {
  const [, options = '', rest = ''] = /^(?:deb\s+)?(?:\[([^\]]*)\]\s*)?(.*)$/s.exec(line.trim()) ?? [];
  const option = (name: string) => new RegExp(`(?:^|\\s)${name}=(\\S+)`).exec(options)?.[1]?.split(',');
  const [address = '', suite = '', ...components] = rest.split(/\s+/);
  const signedBy = option('signed-by');
  return {
    ...placeOf(address, suite, components, JSON.stringify(line)),
    ...architecturesOf(option('arch')),
    ...(signedBy && { signedBy: keyFiles(signedBy) }),
  };
}

/**
 * The repositories of a file of apt: lines (`.list`), or paragraphs (`.sources`), of packages and not of their sources.
 * @throws ToolError `file_unreadable`, `usage`, `not_found` if it names none
 */
export async function readSourcesFile(file: string): Promise<readonly DebRepository[]> {
  const lines = (await readInput(file, 'list of sources')).toString('utf8').split('\n');
  const repositories = file.endsWith('.sources')
    ? [...paragraphs(lines.filter((line) => !line.startsWith('#')).join('\n'))].flatMap((one) => ofParagraph(one, file))
    : lines
        .map((line) => line.replace(/#.*/, '').trim())
        .flatMap((line) => (/^deb\s/.test(line) ? parseRepository(line) : []));
  if (repositories.length > 0) return repositories;
  throw new ToolError('not_found', `${file} names no repository of packages`);
}

function ofParagraph(fields: Paragraph, file: string): readonly DebRepository[] {
  const words = (name: string): readonly string[] =>
    fields
      .get(name)
      ?.split(/\s+/)
      .filter((word) => word !== '') ?? [];
  if (!words('types').includes('deb') || /^(no|false|0)$/i.test(fields.get('enabled') ?? '')) return [];
  const signedBy = signersOf(fields.get('signed-by'), file);
  return words('uris').flatMap((address) =>
    words('suites').map((suite) => ({
      ...placeOf(address, suite, words('components'), file),
      ...architecturesOf(fields.has('architectures') ? words('architectures') : undefined),
      ...(signedBy && { signedBy }),
    })),
  );
}

function placeOf(address: string, suite: string, components: readonly string[], where: string) {
  const isComplete = suite.endsWith('/') ? components.length === 0 : suite !== '' && components.length > 0;
  if (isComplete && (isUrl(address) || address.startsWith('/') || address.startsWith('file:'))) {
    return { where: address.replace(/^file:(\/\/)?/, ''), suite, components };
  }
  const message = `--deb ${where}: a repository is given as 'ADDRESS SUITE COMPONENT...' or 'ADDRESS PATH/', where the address is a URL or an absolute path`;
  throw new ToolError('usage', message);
}

const architecturesOf = (names: readonly string[] | undefined): Pick<DebRepository, 'architectures'> =>
  names === undefined ? {} : { architectures: names };

/** Of a paragraph: files, or a whole key, whose empty lines are written as dots. */
function signersOf(value: string | undefined, file: string): DebRepository['signedBy'] {
  if (value === undefined) return undefined;
  if (!value.includes('-----BEGIN PGP PUBLIC KEY BLOCK-----')) return keyFiles(value.split(/[\s,]+/));
  return { armoredKey: value.trim().replace(/^\.$/gm, ''), in: file };
}

function keyFiles(files: readonly string[]) {
  const unknown = files.find((file) => !file.startsWith('/'));
  if (unknown === undefined) return { files };
  throw new ToolError(
    'usage',
    `signed-by ${unknown} of --deb names no file: take it out, and give the key with --deb-keyring`,
  );
}
