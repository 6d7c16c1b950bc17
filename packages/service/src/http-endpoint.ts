import { isIP } from 'node:net';
import { HttpClientError } from './http-client-error.ts';

/** Whether `host` is an IP address (IPv6 with or without brackets) or a host name. */
export function isHost(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  const isName = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$/.test(bare);
  return isName || isIP(bare) !== 0;
}

/**
 * `host:port` as it stands in a URL: IPv6 addresses in brackets, without a zone. Throws `HttpClientError`
 * `invalid_endpoint` for a host that is neither an address nor a host name: contact data comes from agents, and a host like
 * `x/y` or `a@b` would make another URL.
 */
export function authority(host: string, port: number): string {
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  if (!isHost(host) || !Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new HttpClientError('invalid_endpoint', JSON.stringify(`${host}:${port}`), 'this is no host and port.');
  }
  return bare.includes(':') ? `[${bare.replace(/%.*$/, '')}]:${port}` : `${bare}:${port}`;
}
