import { createRequire } from 'node:module';
import type * as undici from 'undici';

const require = createRequire(import.meta.url);

// The entry of undici also loads fetch, WebSocket, caches and cookies, a sixth of the start of a command line. Its version
// is pinned in package.json: one that moves these files fails the first request of every program.
export const Client: typeof undici.Client = require('undici/lib/dispatcher/client.js');
export const Pool: typeof undici.Pool = require('undici/lib/dispatcher/pool.js');
export const buildConnector: typeof undici.buildConnector = require('undici/lib/core/connect.js');
