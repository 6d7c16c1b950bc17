import path from 'node:path';
import { DatabaseError } from './database-error.ts';

/** Which database a `database_url` names. */
export type DatabaseTarget =
  | { readonly engine: 'sqlite'; readonly file: string; readonly shown: string }
  | { readonly engine: 'postgresql'; readonly url: string; readonly shown: string };

/**
 * Reads a `database_url` in the forms of the existing configuration files: the word `sqlite` (the program's own file in
 * the work directory), `sqlite:///FILE` (relative to the work directory), `sqlite:////FILE` (absolute), `postgresql://`
 * with or without a driver name. `shown` is for people and has no password. Throws `DatabaseError` for anything else.
 */
export function parseDatabaseUrl(url: string, workDir: string, program: string): DatabaseTarget {
  const refuse = (why: string): never => {
    throw new DatabaseError('database_url_invalid', `database_url: ${why}`);
  };
  if (url === 'sqlite') return sqlite(path.join(workDir, `${program}.sqlite`));
  const [, scheme = '', rest = ''] = /^([a-z0-9+]+):(.*)$/is.exec(url) ?? [];
  const engine = scheme.toLowerCase().split('+')[0];
  if (engine === 'sqlite') {
    const file = /^\/\/\/([^?]+)$/.exec(rest)?.[1];
    if (file === undefined || file === ':memory:')
      return refuse('expected sqlite:///FILE: a database in memory would lose every verdict');
    return sqlite(path.resolve(workDir, file));
  }
  if (engine === 'postgresql' || engine === 'postgres') {
    const plain = `postgresql:${rest}`;
    return {
      engine: 'postgresql',
      url: plain,
      shown: withoutPassword(plain) ?? refuse('not a URL like postgresql://USER:PASSWORD@HOST/NAME'),
    };
  }
  if (engine === 'mysql' || engine === 'mariadb') return refuse(`${engine} is not supported: use sqlite or postgresql`);
  return refuse('expected sqlite, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME');
}

const sqlite = (file: string): DatabaseTarget => ({ engine: 'sqlite', file, shown: file });

function withoutPassword(url: string): string | undefined {
  // An empty host (a Unix socket, named by ?host=) is fine for PostgreSQL, but not for WHATWG URLs with a user.
  const parsed = URL.parse(url) ?? URL.parse(url.replace('@/', '@localhost/'));
  if (parsed === null) return undefined;
  const host = parsed.searchParams.get('host') ?? parsed.host;
  return `postgresql://${parsed.username === '' ? '' : `${parsed.username}@`}${host}${parsed.pathname}`;
}
