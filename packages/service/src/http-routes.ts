import { success } from '@keylime/api/envelope';
import type { FastifyInstance } from 'fastify';
import { action } from './http-authorization.ts';

/** Routes of one API version; `version` is `2`, `2.6` and so on. */
export type VersionRoutes = (app: FastifyInstance, version: string) => void;

/**
 * Registers the same routes under `/v<version>` of every version (spec 01 section 1.1: a bare major is another name for its
 * minors). Other versions are unknown paths. Declare schemas outside of `routes`, so that they are compiled once.
 */
export function forVersions(app: FastifyInstance, versions: readonly string[], routes: VersionRoutes): void {
  for (const version of versions) {
    app.register(async (scope) => routes(scope, version), { prefix: `/v${version}` });
  }
}

/**
 * Answers `GET /v<version>/` with 200 and nothing in it: a probe of what is served. The existing services fail here
 * (spec 01 section 1.3), so nobody depends on their answer.
 */
export function versionRoots(app: FastifyInstance, versions: readonly string[]): void {
  for (const version of versions) app.get(`/v${version}/`, { config: action('read_version') }, async () => success({}));
}

/** Knows which methods an application's paths have, to tell a wrong method (405) from an unknown path (404). */
export function watchRoutes(app: FastifyInstance): { readonly methodsOf: (path: string) => readonly string[] } {
  const bySize = new Map<number, { readonly segments: readonly string[]; readonly methods: Set<string> }[]>();
  app.addHook('onRoute', (route) => {
    const segments = segmentsOf(route.url);
    const known = bySize.get(segments.length) ?? [];
    bySize.set(segments.length, known);
    const same = known.find((other) => other.segments.join('/') === segments.join('/'));
    const methods = same?.methods ?? new Set<string>();
    if (same === undefined) known.push({ segments, methods });
    for (const method of [route.method].flat()) methods.add(method);
  });
  return {
    methodsOf: (path) => {
      const segments = segmentsOf(path);
      const matches = bySize.get(segments.length)?.filter((route) => matchesPath(route.segments, segments)) ?? [];
      return [...new Set(matches.flatMap((route) => [...route.methods]))].sort();
    },
  };
}

// One trailing slash is optional everywhere, as for the router.
const segmentsOf = (path: string): readonly string[] =>
  path
    .replace(/[?#].*$/s, '')
    .replace(/\/$/, '')
    .split('/');

const matchesPath = (pattern: readonly string[], path: readonly string[]): boolean =>
  pattern.every((part, index) => (part.startsWith(':') ? path[index] !== '' : part === path[index]));
