import { compareApiVersions, VERSION_NOT_SUPPORTED } from '@keylime/api/versions';

/** Scopes of a version and their resources by method (spec 01 section 6). */
const SCOPES: { readonly [scope: string]: { readonly GET: readonly string[]; readonly POST: readonly string[] } } = {
  agent: { GET: ['info'], POST: [] },
  keys: { GET: ['pubkey', 'verify'], POST: ['ukey', 'vkey'] },
  notifications: { GET: [], POST: ['revocation'] },
  quotes: { GET: ['identity', 'integrity'], POST: [] },
};

export type UnknownPath = { readonly status: 400 | 405; readonly allow?: string; readonly text: string };

/**
 * What to answer to a request that no route takes. [compat] The existing agent says 400 where others say 404, and peers
 * look for the text about the version (spec 01 section 1.5).
 */
export function unknownPath(method: string, url: string, apiVersions: readonly string[]): UnknownPath {
  const path = url.replace(/[?#].*$/s, '');
  const segments = path.split('/').slice(1);
  const [first = '', scope = '', resource = ''] = segments;
  const version = /^v(\d+\.\d+)$/.exec(first)?.[1];
  const isServed = version !== undefined && apiVersions.includes(version);

  const hasScope =
    isServed && Object.hasOwn(SCOPES, scope) && (scope !== 'agent' || compareApiVersions(version, '2.2') >= 0);
  const resources = hasScope ? SCOPES[scope] : undefined;
  const allowed =
    segments.length === 1
      ? ['GET'].filter(() => first === 'version')
      : (['GET', 'POST'] as const).filter((one) => segments.length === 3 && resources?.[one].includes(resource));
  if (allowed.length > 0 || !['GET', 'POST'].includes(method)) {
    const allow = (allowed.length > 0 ? allowed : ['GET', 'POST']).join(', ');
    return { status: 405, allow, text: `Method is not supported: ${allow} only` };
  }
  if (version !== undefined && !isServed) return { status: 400, text: `${VERSION_NOT_SUPPORTED}: v${version}` };
  if (!isServed) {
    const versions = apiVersions.map((one) => `/${one}`).join(', ');
    return { status: 400, text: `Not Implemented: Use ${versions} or /version interfaces` };
  }
  const offered = resources?.[method === 'GET' ? 'GET' : 'POST'] ?? [];
  if (resource === '' || offered.length === 0) {
    const interfaces = method === 'GET' ? '/agent, /keys, or /quotes' : '/keys or /notifications';
    return { status: 400, text: `Not Implemented: Use ${interfaces} interfaces` };
  }
  const supported = offered.map((name) => `/${name}`).join(' and ');
  const are = offered.length === 1 ? 'is' : 'are';
  const where = scope === 'quotes' || scope === 'notifications' ? `${scope}/` : scope;
  return {
    status: 400,
    text: `URI not supported, only ${supported} ${are} supported for ${method} in /${where} interface`,
  };
}
