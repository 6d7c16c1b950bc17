import { isIP, type Socket } from 'node:net';
import { connect, type SecureContext, type TLSSocket } from 'node:tls';
import { ownCopy } from '@keylime/core/own-copy';
import { asHttpClientError, HttpClientError } from './http-client-error.ts';

export type PinnedTarget = {
  readonly host: string;
  readonly port: number;
  /** For messages. */
  readonly endpoint: string;
  /** DER of the one certificate that the peer must show. */
  readonly pin: Buffer;
};

/**
 * What is kept between the connections to one pinned target: the last session that began with the pinned certificate lets
 * the next handshake do without signatures. Start with `{}` for every new pin.
 */
export type PinnedSession = { ticket?: Buffer; refused?: boolean };

/**
 * Connects to the holder of exactly the pinned certificate (spec 01 section 7.5) and gives the connection to `done` before
 * a byte of a request is sent. [MUST] The peer's certificate must equal the pin byte for byte; that the peer has its private
 * key is proven by the handshake. Nothing else of the certificate counts: not its issuer, not its names, and not its own
 * signature, which in certificates of the existing agents does not verify. The caller checks its dates.
 * A resumed session shows no certificate; only who took part in the connection that it comes from, which was checked, can
 * resume it.
 */
export function connectPinned(
  target: PinnedTarget,
  context: SecureContext,
  session: PinnedSession,
  timeoutMs: number,
  done: (error: HttpClientError | null, socket: TLSSocket | null) => void,
): void {
  const ticket = session.refused ? undefined : session.ticket;
  const socket = connect({
    host: target.host,
    port: target.port,
    servername: isIP(target.host) === 0 ? target.host : '',
    secureContext: context,
    // The chain is not what is checked here; the comparison below is.
    rejectUnauthorized: false,
    ...(ticket ? { session: ticket } : {}),
  });
  socket.setNoDelay(true);
  const timer = setTimeout(() => {
    fail(new HttpClientError('connect_timeout', target.endpoint, `no connection within ${timeoutMs} ms.`));
  }, timeoutMs);
  const fail = (error: HttpClientError): void => {
    clearTimeout(timer);
    socket
      .off('error', onError)
      .off('secureConnect', onSecure)
      .off('close', onClose)
      .on('error', () => {});
    socket.destroy();
    done(error, null);
  };
  const onError = (error: Error): void => {
    const failure = asHttpClientError(error, target.endpoint);
    if (ticket && (failure.code === 'tls_failed' || failure.code === 'connection_closed')) {
      // Servers that check client certificates without a session context end such a handshake: do without from now on.
      session.refused = true;
      clearTimeout(timer);
      socket
        .off('close', onClose)
        .on('error', () => {})
        .destroy();
      connectPinned(target, context, session, timeoutMs, done);
      return;
    }
    fail(failure);
  };
  const onClose = (): void =>
    fail(new HttpClientError('connection_closed', target.endpoint, 'it closed the connection during the handshake.'));
  let checked = false;
  const onSecure = (): void => {
    const resumed = ticket !== undefined && socket.isSessionReused();
    if (!resumed && socket.getPeerX509Certificate()?.raw.equals(target.pin) !== true) {
      fail(
        new HttpClientError(
          'pinned_certificate_mismatch',
          target.endpoint,
          'it shows another certificate than the registered one. Somebody else may be at this address, or the agent made ' +
            'a new certificate and must be registered and enrolled again.',
        ),
      );
      return;
    }
    checked = true;
    clearTimeout(timer);
    socket.off('error', onError).off('close', onClose);
    keepFirstError(socket);
    done(null, socket);
  };
  socket.on('session', (fresh) => {
    // Also comes after the check failed: a session of an impostor must not become a way in.
    if (checked && !session.refused) session.ticket = ownCopy(fresh);
  });
  socket.once('error', onError).once('close', onClose).once('secureConnect', onSecure);
}

/**
 * Lets undici report the first error of a connection. The alert of a server that refuses our certificate comes as an error
 * and then as the end of the stream, which undici would report as a connection that was simply closed.
 */
export function keepFirstError(socket: Socket): void {
  socket.once('error', () => socket.removeAllListeners('end'));
}
