import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { run } from './run.ts';

export const NOW = new Date(2026, 1, 3, 10, 11, 12, 345);

export type ToolRun = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs a command line in this process, with a cache of its own that is thrown away. */
export async function runTool(
  args: readonly string[],
  env: { readonly [name: string]: string } = {},
  now: () => Date = () => NOW,
): Promise<ToolRun> {
  let stdout = '';
  let stderr = '';
  const cache = mkdtempSync(path.join(os.tmpdir(), 'policy-tool-cache-'));
  try {
    const code = await run(args, {
      env: { XDG_CACHE_HOME: cache, ...env },
      stdout: { write: (text) => (stdout += text) },
      stderr: { write: (text) => (stderr += text) },
      version: '0.0.0',
      now,
    });
    return { code, stdout, stderr };
  } finally {
    rmSync(cache, { recursive: true });
  }
}

/** A folder that is removed after the test. */
export function folder(t: TestContext): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'policy-tool-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** Writes files below a directory, and the directories that they need. */
export function writeFiles(directory: string, files: { readonly [name: string]: string | Buffer }): void {
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
}

export const sha256 = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');

/** Whether a program that only tests need is installed. */
export function isInstalled(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export const skipWithout = (...programs: readonly string[]): string | false => {
  const missing = programs.filter((program) => !isInstalled(program));
  return missing.length > 0 && `not installed: ${missing.join(', ')}`;
};

/** The members of a policy on stdout that a test looks at. */
export type PolicyOutput = {
  readonly digests: { readonly [name: string]: readonly string[] };
  readonly excludes: readonly string[];
  readonly keyrings: { readonly [name: string]: readonly string[] };
  readonly 'ima-buf': { readonly [name: string]: readonly string[] };
  readonly packages?: { readonly [hex: string]: string };
  readonly 'verification-keys': string;
};

export const policyOf = ({ stdout }: ToolRun): PolicyOutput => JSON.parse(stdout) as PolicyOutput;
