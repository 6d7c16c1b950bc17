import { failure, success } from '@keylime/api/envelope';
import { PUSH_VERSIONS } from '@keylime/api/push-document';
import { API_VERSIONS, CURRENT_API_VERSION } from '@keylime/api/versions';
import { action } from '@keylime/service/http-authorization';
import { versionRoots } from '@keylime/service/http-routes';
import type { FastifyInstance } from 'fastify';
import type { AttestationMode } from '../agent.ts';

/**
 * Version probes (01 section 1.3 of the reference). [compat] Nobody negotiates the push protocol: a verifier that serves it
 * answers 410, by which clients know it.
 */
export function versionRoutes(app: FastifyInstance, mode: AttestationMode): void {
  const versions = success({ current_version: CURRENT_API_VERSION, supported_versions: [...API_VERSIONS, '3.0'] });
  for (const path of ['/version', '/versions']) {
    app.get(path, { config: action('read_version') }, async (_, reply) =>
      mode === 'push' ? reply.code(410).send(failure(410)) : versions,
    );
  }
  app.get('/', { config: action('read_server_info') }, async (_, reply) => reply.redirect('/v3.0/', 307));
  versionRoots(app, ['2', ...API_VERSIONS, ...PUSH_VERSIONS]);
}
