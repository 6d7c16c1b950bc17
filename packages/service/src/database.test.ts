import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Postgres, startPostgres } from '@keylime/testing/postgres';
import { type Kysely, sql } from 'kysely';
import { compileOnce, type Parameter } from './compile-once.ts';
import { type DatabaseOptions, openDatabase } from './database.ts';
import { brokenConstraint, DatabaseError, type DatabaseErrorCode } from './database-error.ts';
import { type Migration, migrate } from './migrate.ts';
import { writeGroup } from './write-group.ts';

type Agents = {
  id: string;
  count: number;
  share: number | null;
  active: boolean;
  ak: Uint8Array | null;
  policy: object | null;
};
type Tables = { agents: Agents; verdicts: { seq: number; agent_id: string } };

const MIGRATIONS: readonly Migration[] = [
  {
    name: 'agents',
    up: async (trx, columns) => {
      await trx.schema
        .createTable('agents')
        .addColumn('id', columns.text, (column) => column.primaryKey())
        .addColumn('count', columns.integer, (column) => column.notNull())
        .addColumn('share', columns.real)
        .addColumn('active', columns.boolean, (column) => column.notNull())
        .addColumn('ak', columns.bytes)
        .addColumn('policy', columns.json)
        .execute();
    },
  },
  {
    name: 'verdicts',
    up: async (trx, columns) => {
      await trx.schema
        .createTable('verdicts')
        .addColumn('seq', columns.identity)
        .addColumn('agent_id', columns.text, (column) => column.notNull().references('agents.id'))
        .execute();
    },
  },
];

const agent = (id: string, more: Partial<Agents> = {}): Agents => ({
  id,
  count: 0,
  share: null,
  active: true,
  ak: null,
  policy: null,
  ...more,
});

const rejectsWith = (code: DatabaseErrorCode, promise: Promise<unknown>) =>
  assert.rejects(promise, (error) => error instanceof DatabaseError && error.code === code);

const folders: string[] = [];
const newFolder = () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-database-'));
  folders.push(folder);
  return folder;
};
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

let postgres: Postgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres?.stop());

/** Options for a new and empty database. */
type NewDatabase = () => Promise<DatabaseOptions>;

const newSqlite: NewDatabase = async () => ({ url: 'sqlite', workDir: newFolder(), program: 'verifier' });

let databases = 0;
const newPostgres: NewDatabase = async () => {
  const admin = await openDatabase({ url: postgres.url, workDir: '/', program: 'verifier' });
  const name = `test_${++databases}`;
  await sql`create database ${sql.id(name)}`.execute(admin);
  await admin.destroy();
  return { url: postgres.url.replace(/\/postgres$/, `/${name}`), workDir: '/', program: 'verifier' };
};

for (const [engine, newDatabase] of [
  ['SQLite', newSqlite],
  ['PostgreSQL', newPostgres],
] as const) {
  describe(engine, () => {
    let options: DatabaseOptions;
    let db: Kysely<Tables>;
    const statements: string[] = [];
    before(async () => {
      options = await newDatabase();
      db = await openDatabase<Tables>({ ...options, onStatement: (text) => statements.push(text) });
      assert.deepEqual(await migrate(db, { program: 'verifier', migrations: MIGRATIONS }), { from: 0, to: 2 });
    });
    after(() => db?.destroy());

    test('values of all column types come back as they went in', async () => {
      const row = agent('types', {
        count: Number.MAX_SAFE_INTEGER,
        share: 0.1,
        active: false,
        ak: Buffer.from([0, 255, 10]),
        policy: { b: [1, { a: null }], a: 'é\n' },
      });
      await db.insertInto('agents').values(row).execute();
      const stored = await db.selectFrom('agents').selectAll().where('id', '=', 'types').executeTakeFirst();
      assert.deepStrictEqual(stored, row);
      assert.equal(JSON.stringify(stored?.policy), '{"b":[1,{"a":null}],"a":"é\\n"}');
      const changed = db
        .updateTable('agents')
        .set({ active: true, policy: ['list'], ak: null })
        .where('id', '=', 'types');
      assert.deepStrictEqual(await changed.returningAll().executeTakeFirst(), {
        ...row,
        active: true,
        policy: ['list'],
        ak: null,
      });
      const joined = db.selectFrom('agents as a').select(['a.active as on', 'a.policy']).where('a.active', '=', true);
      assert.deepStrictEqual(await joined.execute(), [{ on: true, policy: ['list'] }]);
    });

    test('counts and sums are numbers, and tell how many rows a change met', async () => {
      for (const id of ['n1', 'n2'])
        await db
          .insertInto('agents')
          .values(agent(id, { count: 21 }))
          .execute();
      const some = db.selectFrom('agents').where('id', 'in', ['n1', 'n2']);
      const totals = some.select((eb) => [eb.fn.countAll<number>().as('rows'), eb.fn.sum<number>('count').as('sum')]);
      assert.deepStrictEqual(await totals.executeTakeFirst(), { rows: 2, sum: 42 });
      const update = db.updateTable('agents').set({ count: 1 }).where('id', 'in', ['n1', 'n2', 'n3']);
      assert.equal((await update.executeTakeFirst()).numUpdatedRows, 2n);
      const again = db
        .insertInto('agents')
        .values(agent('n1'))
        .onConflict((conflict) => conflict.doNothing());
      assert.equal((await again.executeTakeFirst()).numInsertedOrUpdatedRows, 0n);
      assert.equal((await db.deleteFrom('agents').where('id', '=', 'n2').executeTakeFirst()).numDeletedRows, 1n);
    });

    test('an integer too large for a number is an error, not another number', async () => {
      await sql`insert into agents (id, count, active) values ('big', 9007199254740993, true)`.execute(db);
      await assert.rejects(db.selectFrom('agents').select('count').where('id', '=', 'big').execute());
    });

    test('values that the engines treat differently are refused', async () => {
      for (const value of [new Date(), undefined]) {
        const query = db
          .selectFrom('agents')
          .selectAll()
          .where('share', '=', value as unknown as number);
        await assert.rejects(query.execute(), TypeError);
      }
    });

    test('broken constraints have the same names', async () => {
      await db.insertInto('agents').values(agent('once')).execute();
      const breaks = async (query: { readonly execute: () => Promise<unknown> }) =>
        brokenConstraint(
          await query.execute().then(
            () => undefined,
            (error: unknown) => error,
          ),
        );
      assert.equal(await breaks(db.insertInto('agents').values(agent('once'))), 'unique');
      assert.equal(
        await breaks(db.insertInto('verdicts').values({ agent_id: 'nobody' } as Tables['verdicts'])),
        'foreign_key',
      );
      assert.equal(await breaks(db.insertInto('agents').values({ id: 'x', count: 1 } as Agents)), 'not_null');
      assert.equal(await breaks({ execute: () => sql`select nonsense`.execute(db) }), undefined);
    });

    test('a transaction that throws leaves nothing behind', async () => {
      const failing = db.transaction().execute(async (trx) => {
        await trx.insertInto('agents').values(agent('gone')).execute();
        throw new RangeError('mine');
      });
      await assert.rejects(failing, RangeError);
      assert.equal(await db.selectFrom('agents').where('id', '=', 'gone').select('id').executeTakeFirst(), undefined);
    });

    test('transactions that start together all take place', async () => {
      await db.insertInto('agents').values(agent('counter')).execute();
      const increment = () =>
        db.transaction().execute((trx) =>
          trx
            .updateTable('agents')
            .set((eb) => ({ count: eb('count', '+', 1) }))
            .where('id', '=', 'counter')
            .execute(),
        );
      await Promise.all(Array.from({ length: 50 }, increment));
      const row = await db.selectFrom('agents').select('count').where('id', '=', 'counter').executeTakeFirst();
      assert.deepStrictEqual(row, { count: 50 });
    });

    test('a query compiled once runs with each set of values', async () => {
      const insert = compileOnce((value: Parameter<Agents>) =>
        db.insertInto('agents').values({
          id: value('id'),
          count: value('count'),
          share: value('share'),
          active: value('active'),
          ak: value('ak'),
          policy: value('policy'),
        }),
      );
      const find = compileOnce((value: Parameter<{ id: string }>) =>
        db.selectFrom('agents').selectAll().where('id', '=', value('id')),
      );
      const rows = [agent('c1', { active: false, policy: [1] }), agent('c2', { ak: Buffer.from('x') })];
      for (const row of rows) await db.transaction().execute((trx) => insert(trx, row));
      for (const row of rows) assert.deepStrictEqual((await find(db, { id: row.id })).rows, [row]);
    });

    test('every statement is told to who counts them', async () => {
      statements.length = 0;
      await db.transaction().execute((trx) => trx.selectFrom('agents').select('id').limit(1).execute());
      assert.equal(statements.length, 3);
      assert.match(statements.join(), /^begin.*,select "id" from "agents".*,commit$/);
    });

    test('grouped writes share a commit, and each gets its own result', async () => {
      const group = writeGroup(db, { maxDelayMs: 1, maxSize: 40 });
      statements.length = 0;
      const ids = Array.from({ length: 100 }, (_, index) => `g${index}`);
      const results = await Promise.all(
        ids.map((id) =>
          group.submit(async (trx) => {
            await trx.insertInto('agents').values(agent(id)).execute();
            return id;
          }),
        ),
      );
      assert.deepEqual(results, ids);
      assert.equal(statements.filter((text) => text === 'commit').length, 3);
      await group.close();
    });

    test('a bad write in a group fails alone, with its own error', async () => {
      const group = writeGroup(db, { maxDelayMs: 1 });
      const outcomes = await Promise.allSettled(
        Array.from({ length: 30 }, (_, index) =>
          group.submit((trx) => {
            if (index === 7) throw new RangeError('mine');
            return trx
              .insertInto('agents')
              .values(agent(index % 10 === 3 ? 'once' : `b${index}`))
              .execute();
          }),
        ),
      );
      const failed = outcomes.flatMap((outcome, index) =>
        outcome.status === 'rejected' ? [[index, outcome.reason] as const] : [],
      );
      assert.deepEqual(
        failed.map(([index]) => index),
        [3, 7, 13, 23],
      );
      assert.deepEqual(
        failed.map(([, reason]) => brokenConstraint(reason)),
        ['unique', undefined, 'unique', 'unique'],
      );
      const stored = await db.selectFrom('agents').select('id').where('id', 'like', 'b%').execute();
      assert.equal(stored.filter(({ id }) => /^b\d+$/.test(id)).length, 26);
      await group.close();
    });

    test('grouped writes take effect in the order of their submission', async () => {
      await db
        .insertInto('agents')
        .values(agent('order', { policy: [] }))
        .execute();
      const group = writeGroup(db, { maxDelayMs: 1, maxSize: 7 });
      const append = (value: number) =>
        group.submit(async (trx) => {
          if (value % 5 === 4) throw new Error('skipped');
          const { policy } = await trx
            .selectFrom('agents')
            .select('policy')
            .where('id', '=', 'order')
            .executeTakeFirstOrThrow();
          const list = policy as number[];
          await trx
            .updateTable('agents')
            .set({ policy: [...list, value] })
            .where('id', '=', 'order')
            .execute();
        });
      await Promise.allSettled(Array.from({ length: 20 }, (_, value) => append(value)));
      const { policy } = await db
        .selectFrom('agents')
        .select('policy')
        .where('id', '=', 'order')
        .executeTakeFirstOrThrow();
      assert.deepEqual(policy, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]);
      await group.close();
    });

    test('closing a group finishes what it has and takes no more', async () => {
      const group = writeGroup(db, { maxDelayMs: 60_000 });
      const write = group.submit((trx) => trx.insertInto('agents').values(agent('last')).execute());
      await group.close();
      await write;
      await assert.rejects(
        group.submit(async () => 1),
        /closed/,
      );
    });

    test('a database that is gone rejects every grouped write, once', async () => {
      const other = await openDatabase<Tables>(await newDatabase());
      const group = writeGroup(other, { maxDelayMs: 1 });
      await other.destroy();
      const outcomes = await Promise.allSettled([1, 2, 3].map(() => group.submit(async () => 1)));
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['rejected', 'rejected', 'rejected'],
      );
      await group.close();
    });

    test('migrations run once, also when several processes start together', async () => {
      const fresh = await newDatabase();
      const processes = await Promise.all([1, 2, 3].map(() => openDatabase<Tables>(fresh)));
      const outcomes = await Promise.all(
        processes.map((each) => migrate(each, { program: 'verifier', migrations: MIGRATIONS })),
      );
      assert.deepEqual(outcomes.map(({ from }) => from).sort(), [0, 2, 2]);
      await Promise.all(processes.map((each) => each.destroy()));
    });

    test('a step that fails leaves the schema as it was', async () => {
      const other = await openDatabase<Tables>(await newDatabase());
      const broken: Migration = { name: 'broken', up: async (trx) => void (await sql`create nonsense`.execute(trx)) };
      await assert.rejects(migrate(other, { program: 'verifier', migrations: [...MIGRATIONS, broken] }));
      assert.deepEqual(await migrate(other, { program: 'verifier', migrations: MIGRATIONS }), { from: 0, to: 2 });
      assert.deepEqual(await migrate(other, { program: 'registrar', migrations: [] }), { from: 0, to: 0 });
      await other.destroy();
    });

    test('a newer schema, an older one that may not be changed, and a foreign one are refused', async () => {
      await rejectsWith('database_newer', migrate(db, { program: 'verifier', migrations: MIGRATIONS.slice(0, 1) }));
      const third: Migration = { name: 'third', up: async () => {} };
      await rejectsWith(
        'database_older',
        migrate(db, { program: 'verifier', migrations: [...MIGRATIONS, third], apply: false }),
      );
      const foreign = await openDatabase(await newDatabase());
      await sql`create table alembic_version_cloud_verifier (version_num varchar(32))`.execute(foreign);
      await rejectsWith('database_foreign', migrate(foreign, { program: 'verifier', migrations: MIGRATIONS }));
      await foreign.destroy();
    });

    test('what was committed survives a killed process', async () => {
      const fresh = await newDatabase();
      const child = spawn(
        process.execPath,
        [path.join(import.meta.dirname, 'database-writer.fixture.ts'), JSON.stringify(fresh)],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      const exited = once(child, 'exit');
      let acknowledged = 0;
      for await (const chunk of child.stdout.setEncoding('utf8')) {
        acknowledged += String(chunk).split('\n').length - 1;
        if (acknowledged >= 200) child.kill('SIGKILL');
      }
      assert.equal((await exited)[1], 'SIGKILL');
      const reopened = await openDatabase<{ verdicts: { id: number } }>(fresh);
      const stored = await reopened.selectFrom('verdicts').select('id').execute();
      assert.ok(stored.length >= acknowledged, `${stored.length} rows for ${acknowledged} commits`);
      await reopened.destroy();
    });
  });
}

test('a SQLite database and its folder are for their owner only', async () => {
  const workDir = path.join(newFolder(), 'new', 'work');
  const db = await openDatabase({ url: 'sqlite', workDir, program: 'registrar' });
  await sql`create table t (x text)`.execute(db);
  const mode = (file: string) => statSync(file).mode & 0o777;
  assert.equal(mode(workDir), 0o700);
  for (const suffix of ['', '-wal', '-shm']) assert.equal(mode(path.join(workDir, `registrar.sqlite${suffix}`)), 0o600);
  await db.destroy();
  chmodSync(path.join(workDir, 'registrar.sqlite'), 0o644);
  await (await openDatabase({ url: 'sqlite', workDir, program: 'registrar' })).destroy();
  assert.equal(mode(path.join(workDir, 'registrar.sqlite')), 0o600);
});

test('a place that cannot be written, and a file that is no database, are told apart', async () => {
  const folder = newFolder();
  const open = (url: string) => openDatabase({ url, workDir: folder, program: 'verifier' });
  writeFileSync(path.join(folder, 'file'), 'not a database, but long enough to be looked at as one '.repeat(40));
  await rejectsWith('database_unusable', open('sqlite:///file'));
  await rejectsWith('database_not_writable', open('sqlite:///file/below'));
  mkdirSync(path.join(folder, 'folder'));
  await rejectsWith('database_not_writable', open('sqlite:///folder'));
  symlinkSync('/proc/version', path.join(folder, 'readonly'));
  await rejectsWith('database_not_writable', open('sqlite:///readonly'));
});

test('a PostgreSQL that is not there, a wrong password and a missing database are told apart, without the password', async () => {
  const open = (url: string) => openDatabase({ url, workDir: '/', program: 'verifier' });
  const password = new URL(postgres.url).password;
  const cases: readonly (readonly [url: string, code: DatabaseErrorCode])[] = [
    ['postgresql://keylime:hunter2@127.0.0.1:1/db', 'database_unreachable'],
    ['postgresql://keylime:hunter2@/db?host=/nonexistent', 'database_unreachable'],
    [postgres.url.replace(password, 'hunter2'), 'database_login_refused'],
    [postgres.url.replace(/\/postgres$/, '/missing'), 'database_missing'],
  ];
  for (const [url, code] of cases) {
    await assert.rejects(open(url), (error) => {
      assert.ok(error instanceof DatabaseError);
      assert.equal(error.code, code, error.message);
      assert.ok(!error.message.includes('hunter2') && !error.message.includes(password), error.message);
      return true;
    });
  }
});

test('a connection that the server closed is replaced by the next query', async () => {
  const db = await openDatabase({ url: postgres.url, workDir: '/', program: 'verifier', poolSize: 1 });
  const admin = await openDatabase({ url: postgres.url, workDir: '/', program: 'registrar' });
  await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'keylime.verifier'`.execute(
    admin,
  );
  const answers = async () => (await sql<{ one: number }>`select 1 as one`.execute(db)).rows[0]?.one;
  // The pool hears of the closed connection at its own time; one query may still meet it, but not two.
  assert.equal(await answers().catch(answers), 1);
  await db.destroy();
  await admin.destroy();
});
