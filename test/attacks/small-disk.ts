import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { codeOf } from '@keylime/core/coded-error';

/** A file system of three megabytes, and a way to fill it. Needs root. */
export function smallDisk(t: TestContext) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'keylime-small-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m,mode=0700', 'none', folder]);
  t.after(() => {
    execFileSync('umount', ['--lazy', folder]);
    rmSync(folder, { recursive: true });
  });
  const filler = path.join(folder, 'filler');
  const fill = () => {
    try {
      for (;;) writeFileSync(filler, Buffer.alloc(4096), { flag: 'a' });
    } catch (error) {
      assert.equal(codeOf(error), 'ENOSPC');
    }
  };
  return { folder, fill, free: () => rmSync(filler) };
}
