import { compileExcludes } from '@keylime/policies/excludes';
import type { Log } from '@keylime/service/log';
import { type AlgorithmSource, guessAlgorithm } from './digest-algorithm.ts';
import { addDigest, measuredName, type PolicyDraft } from './policy-draft.ts';
import { ToolError } from './tool-error.ts';

/**
 * Adds lines of `digest path` to a policy, as `sha256sum` prints them. Blank lines and lines of one word count for nothing;
 * `#` begins no comment.
 * @throws ToolError `list_invalid`
 */
export function importAllowlist(text: string, draft: PolicyDraft, log: Log): readonly AlgorithmSource[] {
  let first: string | undefined;
  for (const [i, line] of text.split('\n').entries()) {
    const [, hex, path] = /^\s*(\S+)\s+(\S.*?)\s*$/.exec(line) ?? [];
    if (hex === undefined || path === undefined) {
      if (line.trim() !== '') log.debug(`Skipping line ${i + 1} of the allowlist, which has no path`);
      continue;
    }
    if (!/^[0-9a-f]{40,128}$/.test(hex)) {
      // The first digest tells the algorithm, and is refused with the words for that.
      if (first === undefined) return [{ name: 'allowlist', algorithm: undefined }];
      throw new ToolError(
        'list_invalid',
        `Line ${i + 1} of the allowlist does not begin with a digest in lower-case hexadecimal: ${hex.slice(0, 140)}`,
      );
    }
    first ??= hex;
    addDigest(draft.digests, measuredName(path), hex);
  }
  return first === undefined ? [] : [{ name: 'allowlist', algorithm: guessAlgorithm(first) }];
}

/**
 * Adds the patterns of an exclude list, one a line, to a policy. [compat] A line that begins with `#` is a pattern, too.
 * @throws ToolError `list_invalid` with every pattern that cannot be used
 */
export function importExcludeList(text: string, draft: PolicyDraft, log: Log): void {
  const lines = text
    .split(/\r?\n/)
    .map((pattern, i) => ({ pattern, number: i + 1 }))
    .filter(({ pattern }) => pattern.trim() !== '');
  const compiled = compileExcludes(lines.map(({ pattern }) => pattern));
  if (!compiled.ok) {
    const problems = compiled.problem.map(({ index, message }) => {
      const line = index === undefined ? undefined : lines[index];
      return line === undefined ? message : `line ${line.number}, ${JSON.stringify(line.pattern)}: ${message}`;
    });
    throw new ToolError('list_invalid', `The exclude list cannot be used: ${problems.join('; ')}`);
  }
  for (const { pattern, number } of lines) {
    if (pattern.startsWith('#')) log.warn(`Line ${number} of the exclude list is a pattern, not a comment: ${pattern}`);
    draft.excludes.push(pattern);
  }
}
