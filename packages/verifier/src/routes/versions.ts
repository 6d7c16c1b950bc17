import { success } from '@keylime/api/envelope';
import { API_VERSIONS, CURRENT_API_VERSION } from '@keylime/api/versions';
import { action } from '@keylime/service/http-authorization';
import { versionRoots } from '@keylime/service/http-routes';
import type { FastifyInstance } from 'fastify';

/** Version probes, and a word for what other versions have and this one does not (01 section 1.3 of the reference). */
export function versionRoutes(app: FastifyInstance): void {
  const versions = success({ current_version: CURRENT_API_VERSION, supported_versions: API_VERSIONS });
  for (const path of ['/version', '/versions']) app.get(path, { config: action('read_version') }, async () => versions);
  app.get('/', { config: action('read_server_info') }, async (_, reply) => reply.redirect('/v3.0/', 307));
  versionRoots(app, ['2', ...API_VERSIONS, '3', '3.0']);
}
