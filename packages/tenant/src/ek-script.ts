import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import path from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
import { TenantError } from './tenant-error.ts';

/** What an `ek_check_script` is told about an EK, by the names of its environment (spec 02 section 4.1). */
export type EkScriptVariables = {
  readonly AGENT_UUID: string;
  /** PEM SubjectPublicKeyInfo. */
  readonly EK: string;
  /** base64 TPM2B_PUBLIC. */
  readonly EK_TPM: string;
  /** base64 DER, or empty. */
  readonly EK_CERT: string;
  /** JSON. */
  readonly PROVKEYS: string;
  readonly TPM_CERT_STORE: string;
};

const OUTPUT_LIMIT_BYTES = 64 * 1024;
const TIME_LIMIT_MS = 300_000;

/**
 * Runs the operator's script, without shell or arguments, in the work directory; exit code 0 accepts. Returns what it
 * printed on stdout and stderr. A script that is not there, cannot be started, or does not end in time, rejects: a check
 * that did not run is a failure.
 * @throws TenantError `ek_rejected`
 */
export async function runEkScript(given: {
  readonly script: string;
  readonly workDir: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly variables: EkScriptVariables;
  readonly timeLimitMs?: number;
}): Promise<string> {
  const file = path.resolve(given.workDir, given.script);
  try {
    await access(file);
  } catch (cause) {
    throw rejected(`External check script (${file}) not found; correct ek_check_script in tenant.conf`, cause);
  }
  const timeLimitMs = given.timeLimitMs ?? TIME_LIMIT_MS;
  // Its own process group, so that the time limit ends what the script started as well.
  const child = spawn(file, [], {
    cwd: given.workDir,
    env: { ...given.environment, ...given.variables },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const output: Buffer[] = [];
  let size = 0;
  const keep = (part: Buffer) => {
    if (size < OUTPUT_LIMIT_BYTES) output.push(part.subarray(0, OUTPUT_LIMIT_BYTES - size));
    size += part.length;
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, timeLimitMs);
  try {
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
    });
    const text = Buffer.concat(output).toString('utf8').trim();
    if (code === 0) return text;
    if (late) throw rejected(`External check script (${file}) did not end within ${timeLimitMs / 1000} s`);
    const end = code === null ? `ended by ${signal}` : `exit code ${code}`;
    throw rejected(`External check script failed to validate EK: ${text || 'no output'} (${end})`);
  } catch (error) {
    if (error instanceof TenantError) throw error;
    const code = codeOf(error);
    const why = code === 'EACCES' ? 'it is not executable (chmod +x)' : `it cannot be started (${code})`;
    throw rejected(`External check script (${file}) failed: ${why}`, error);
  } finally {
    clearTimeout(timer);
  }
}

const rejected = (message: string, cause?: unknown): TenantError => new TenantError('ek_rejected', message, { cause });
