import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';

/** A clock for a process that is started with the variables in `env`: `setClock` sets it by so many milliseconds. */
export function steppedClock(t: TestContext) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-clock-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'step');
  const preloaded = pathToFileURL(path.join(import.meta.dirname, 'stepped-clock.fixture.ts')).href;
  return {
    env: { STEPPED_CLOCK: file, NODE_OPTIONS: `--import ${preloaded}` },
    setClock: (byMs: number) => writeFileSync(file, String(byMs)),
  };
}
