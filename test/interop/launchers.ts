import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Launch } from './processes.ts';

export type Part = 'registrar' | 'verifier' | 'tenant' | 'agent';
export type Maker = 'ours' | 'theirs';
/** Who starts an attestation: the verifier, or the agent. */
export type Model = 'pull' | 'push';
export const PARTS: readonly Part[] = ['registrar', 'verifier', 'tenant', 'agent'];

export const ROOT = join(import.meta.dirname, '..', '..');
export const INSTALLED = join(import.meta.dirname, '.installed');

const firstOf = (files: readonly string[]) => files.find((file) => existsSync(file));

const onPath = (name: string): readonly string[] =>
  (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name));

/** The Rust agent: named by the environment, installed by `install.ts`, or from a package of the system. */
export const rustAgent = (): string | undefined =>
  firstOf([
    ...named('INTEROP_RUST_AGENT'),
    join(INSTALLED, 'rust', 'bin', 'keylime_agent'),
    ...onPath('keylime_agent'),
  ]);

/** The Rust push agent: named by the environment, or from a package of the system. */
const rustPushAgent = (): string | undefined =>
  firstOf([...named('INTEROP_RUST_PUSH_AGENT'), ...onPath('keylime_push_model_agent')]);

const named = (variable: string): readonly string[] => process.env[variable]?.split('\n', 1) ?? [];

export const pythonProgram = (part: Exclude<Part, 'agent'>): string | undefined =>
  firstOf([join(INSTALLED, 'python', 'bin', `keylime_${part}`)]);

/** How to start `part`, or why that cannot be done here. */
export function launcher(part: Part, maker: Maker, model: Model): Launch | { readonly missing: string } {
  if (maker === 'ours') {
    if (part === 'agent' && model === 'push') {
      return {
        command: process.execPath,
        args: [join(ROOT, 'packages', 'agent', 'bin', 'keylime_push_model_agent.mjs')],
      };
    }
    const main = join(ROOT, 'packages', part, 'src', 'main.ts');
    if (!existsSync(main)) return { missing: `our ${part} is not there (packages/${part}/src/main.ts)` };
    return { command: process.execPath, args: [main] };
  }
  if (part === 'agent' && model === 'push') {
    const command = rustPushAgent();
    return command === undefined
      ? { missing: 'INTEROP_RUST_PUSH_AGENT names no Rust push agent' }
      : { command, args: [] };
  }
  if (part === 'agent') {
    const command = rustAgent();
    if (command === undefined) return { missing: 'the Rust agent is not installed' };
    if (process.getuid?.() !== 0) return { missing: 'the Rust agent needs root for its secure mount' };
    return { command, args: [] };
  }
  const command = pythonProgram(part);
  return command === undefined ? { missing: `the Python ${part} is not installed` } : { command, args: [] };
}
