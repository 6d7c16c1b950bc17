import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CRL_DER, readCrl } from '@keylime/pki/crl-file';
import type { CaFolder } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { renewCrl } from '@keylime/pki/revocation';
import { type ListenAddress, listenOn } from '@keylime/service/http-listen';
import { unavailable } from '@keylime/service/http-problem';
import { buildHttpServer } from '@keylime/service/http-server';
import type { Log } from '@keylime/service/log';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Longest time that a cache may answer with a CRL that was replaced: a revocation is not to wait for longer. */
const MAX_AGE_S = 60;
const RENEW_EVERY_MS = 60_000;
const REPEAT_ERROR_MS = 3_600_000;

export type CrlServer = {
  readonly address: ListenAddress;
  /** Renews the CRL now if its time has come; the server does so every minute. */
  readonly renew: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/**
 * Serves the CRL of a folder over HTTP at the path of `url`, the distribution point in certificates, as DER, and with
 * `.pem` behind it as PEM; and renews it long before it ends (`renews`). Revocations by other programs are served at once.
 * @throws ListenError; PkiError if the first renewal fails
 */
export async function serveCrl(options: {
  readonly folder: CaFolder;
  readonly renews: boolean;
  readonly url: string;
  readonly ip?: string | undefined;
  readonly port?: number | undefined;
  readonly log: Log;
  readonly now?: () => number;
}): Promise<CrlServer> {
  const { folder, log, now = Date.now } = options;
  const point = distributionPoint(options.url);
  if (options.renews) await renewCrl(folder);
  const current = cachedCrl(folder.dir);
  const app = buildHttpServer({ log, bodyLimitBytes: 1024, authorization: 'none' });
  const serve = (form: 'der' | 'pem') => async (request: FastifyRequest, reply: FastifyReply) => {
    const crl = await current();
    if (crl === undefined) throw unavailable('The CRL cannot be read.', 60);
    return sendCrl(request, reply, crl, form, now());
  };
  for (const method of ['GET', 'HEAD'] as const) {
    app.route({ method, url: point.path, handler: serve('der') });
    app.route({ method, url: `${point.path === '/' ? '/crl' : point.path}.pem`, handler: serve('pem') });
  }
  const address = await listenOn(app, { host: options.ip ?? point.ip, port: options.port ?? point.port });
  log.info('Serving the CRL', { address: `${address.host}:${address.port}`, path: point.path });

  let complainedAt = Number.NEGATIVE_INFINITY;
  const renew = async () => {
    try {
      if ((await renewCrl(folder)) === 'renewed') log.info('Renewed the CRL');
    } catch (error) {
      if (now() - complainedAt < REPEAT_ERROR_MS) return;
      complainedAt = now();
      log.error('The CRL cannot be renewed: it is served until it ends, and after', { error });
    }
  };
  const timer = options.renews ? setInterval(() => void renew(), RENEW_EVERY_MS) : undefined;
  return {
    address,
    renew,
    async close() {
      clearInterval(timer);
      await app.close();
    },
  };
}

type Crl = {
  readonly der: Buffer;
  readonly etag: string;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date | undefined;
};

/** The CRL on the disk, read again when the file was replaced. */
function cachedCrl(dir: string): () => Promise<Crl | undefined> {
  let kept: { readonly version: string; readonly crl: Crl | undefined } | undefined;
  return async () => {
    const found = await stat(path.join(dir, CRL_DER), { bigint: true }).catch(() => undefined);
    const version = found === undefined ? '' : `${found.ino} ${found.mtimeNs} ${found.size}`;
    if (kept?.version !== version) {
      const crl = await readCrl(dir);
      kept = {
        version,
        crl: crl && { ...crl, etag: `"${createHash('sha256').update(crl.der).digest('base64url')}"` },
      };
    }
    return kept.crl;
  };
}

function sendCrl(
  request: FastifyRequest,
  reply: FastifyReply,
  crl: Crl,
  form: 'der' | 'pem',
  now: number,
): FastifyReply {
  const leftS = crl.nextUpdate ? Math.floor((crl.nextUpdate.getTime() - now) / 1000) : 0;
  const etag = form === 'der' ? crl.etag : crl.etag.replace(/"$/, '-pem"');
  reply.headers({
    etag,
    'last-modified': crl.thisUpdate.toUTCString(),
    'cache-control': `public, max-age=${Math.max(0, Math.min(MAX_AGE_S, leftS))}, must-revalidate`,
    'x-content-type-options': 'nosniff',
  });
  if (isKnown(request, etag, crl.thisUpdate)) return reply.code(304).send();
  if (form === 'der') return reply.type('application/pkix-crl').send(crl.der);
  const lines = crl.der.toString('base64').replace(/.{64}/g, '$&\n').trimEnd();
  return reply.type('application/x-pem-file').send(`-----BEGIN X509 CRL-----\n${lines}\n-----END X509 CRL-----\n`);
}

/** RFC 9110 section 13.2.2: where an entity tag is given, the date does not count. */
function isKnown({ headers }: FastifyRequest, etag: string, thisUpdate: Date): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return tags.split(',').some((tag) => ['*', etag, `W/${etag}`].includes(tag.trim()));
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return since >= thisUpdate.getTime();
}

function distributionPoint(text: string): { readonly ip: string; readonly port: number; readonly path: string } {
  const url = URL.parse(text);
  if (url?.protocol !== 'http:' || url.search !== '' || /[:*(){}]/.test(url.pathname)) {
    throw new PkiError(
      'invalid_name',
      `cert_crl_dist "${text}" is nothing that can be served: set http://HOST:PORT/PATH.`,
    );
  }
  const isLocal = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  return {
    ip: isLocal ? (url.hostname === '[::1]' ? '::1' : '127.0.0.1') : '0.0.0.0',
    port: url.port === '' ? 80 : Number(url.port),
    path: url.pathname,
  };
}
