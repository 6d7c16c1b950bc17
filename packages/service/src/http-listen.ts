import type { AddressInfo } from 'node:net';
import { CodedError, codeOf } from '@keylime/core/coded-error';
import type { FastifyInstance } from 'fastify';

/** Where a server waits for connections; port 0 takes a free one. */
export type ListenAddress = { readonly host: string; readonly port: number };

/** A service cannot listen where it was told to; `code` is the system's, such as `EADDRINUSE`. */
export class ListenError extends CodedError<string> {}

/** Starts `app` on `address` and returns where it listens; throws `ListenError`. */
export async function listenOn(app: FastifyInstance, address: ListenAddress): Promise<ListenAddress> {
  try {
    await app.listen({ host: address.host, port: address.port });
  } catch (cause) {
    throw listenError(cause, address);
  }
  const bound = app.server.address() as AddressInfo;
  return { host: bound.address, port: bound.port };
}

/** What `cause` means to who chose `address`; `cause` itself if the system has no word in it. */
export function listenError(cause: unknown, address: ListenAddress): unknown {
  const code = codeOf(cause) ?? '';
  if (code === '' || code.startsWith('FST_')) return cause;
  return new ListenError(code, `Cannot listen on ${show(address)}: ${adviceOn(code)}`, { cause });
}

/**
 * Starts several servers of one program (the registrar has a plain and a TLS port): all of them, or none if one fails.
 * Build each with the same plugin; they share what the plugin was given, not the Fastify instance.
 */
export async function listenAll(
  servers: readonly { readonly app: FastifyInstance; readonly address: ListenAddress }[],
): Promise<{ readonly addresses: readonly ListenAddress[]; readonly close: () => Promise<void> }> {
  const close = async () => {
    await Promise.all(servers.map(({ app }) => app.close()));
  };
  try {
    const addresses: ListenAddress[] = [];
    for (const { app, address } of servers) addresses.push(await listenOn(app, address));
    return { addresses, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const show = ({ host, port }: ListenAddress): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

function adviceOn(code: string): string {
  switch (code) {
    case 'EADDRINUSE':
      return 'another program listens there. Stop it, or set another port.';
    case 'EACCES':
      return 'not permitted. Ports below 1024 need the capability CAP_NET_BIND_SERVICE.';
    case 'EADDRNOTAVAIL':
      return 'this machine has no such address. Set ip to one of its own, or to 0.0.0.0.';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the name does not resolve to an address.';
    default:
      return `${code}.`;
  }
}
