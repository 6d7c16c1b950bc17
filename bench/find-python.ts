import { existsSync } from 'node:fs';

/** A Python that has the existing implementation, if there is one on this machine. */
export const findPython = (): string | undefined =>
  [process.env.KEYLIME_PYTHON, 'test/interop/.installed/python/bin/python'].find(
    (path) => path !== undefined && existsSync(path),
  );

/** What a result says where there is none. */
export const NO_PYTHON = {
  notRun: 'set KEYLIME_PYTHON to a Python that has the package keylime, or run npm run interop',
} as const;
