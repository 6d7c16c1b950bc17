import type { Compilable, CompiledQuery, QueryResult } from 'kysely';

/** Stands for a value that comes with each run. Use it only where a value is bound: `values`, `set`, `where`. */
export type Parameter<P> = <Name extends keyof P & string>(name: Name) => P[Name];

type Runner = { readonly executeQuery: <R>(query: CompiledQuery<R>) => Promise<QueryResult<R>> };

class Placeholder {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/**
 * A query that Kysely builds and compiles the first time only; each run binds its parameters. For statements of the hot
 * path: building costs more than running them on SQLite. Example:
 *
 *     const touch = compileOnce((value: Parameter<{ id: string; seen: number }>) =>
 *       db.updateTable('agents').set({ seen: value('seen') }).where('id', '=', value('id')));
 *     await touch(trx, { id, seen });
 */
export function compileOnce<P extends Readonly<Record<string, unknown>>, R>(
  build: (value: Parameter<P>) => Compilable<R>,
): (runner: Runner, parameters: P) => Promise<QueryResult<R>> {
  let compiled: CompiledQuery<R> | undefined;
  // A placeholder takes the place of a value on its way through Kysely, which hands values on untouched.
  const placeholder: Parameter<P> = (name) => new Placeholder(name) as unknown as P[typeof name];
  return (runner, parameters) => {
    compiled ??= build(placeholder).compile();
    const bound = compiled.parameters.map((value) => (value instanceof Placeholder ? parameters[value.name] : value));
    return runner.executeQuery({ ...compiled, parameters: bound });
  };
}
