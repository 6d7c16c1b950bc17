import assert from 'node:assert/strict';
import test from 'node:test';
import { DatabaseError } from './database-error.ts';
import { parseDatabaseUrl } from './database-url.ts';

const parse = (url: string) => parseDatabaseUrl(url, '/work', 'verifier');

test('sqlite is a file of our own, relative to the work directory or absolute', () => {
  assert.deepEqual(parse('sqlite'), {
    engine: 'sqlite',
    file: '/work/verifier.sqlite',
    shown: '/work/verifier.sqlite',
  });
  const file = (url: string) => {
    const target = parse(url);
    return target.engine === 'sqlite' && target.file;
  };
  assert.equal(file('sqlite:///data/a.db'), '/work/data/a.db');
  assert.equal(file('sqlite:////data/a.db'), '/data/a.db');
});

test('PostgreSQL is known by all names of the existing files, and shown without its password', () => {
  for (const scheme of ['postgresql', 'postgres', 'postgresql+psycopg2', 'postgresql+asyncpg']) {
    assert.deepEqual(parse(`${scheme}://u:p%40w@h:5433/db?sslmode=disable`), {
      engine: 'postgresql',
      url: 'postgresql://u:p%40w@h:5433/db?sslmode=disable',
      shown: 'postgresql://u@h:5433/db',
    });
  }
  assert.equal(parse('postgresql://u:secret@/db?host=/run/postgresql').shown, 'postgresql://u@/run/postgresql/db');
});

test('what is not supported is refused with what to use instead, and without the password', () => {
  for (const url of [
    'mysql+pymysql://u:hunter2@h/db',
    'mariadb://h/db',
    'sqlite://',
    'sqlite:///:memory:',
    'oracle://u:hunter2@h',
    '',
    'postgresql://u:hunter2@[bad/db',
  ]) {
    assert.throws(
      () => parse(url),
      (error) =>
        error instanceof DatabaseError && error.code === 'database_url_invalid' && !error.message.includes('hunter2'),
      url,
    );
  }
});
