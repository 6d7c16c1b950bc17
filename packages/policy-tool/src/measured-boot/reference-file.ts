import type { MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import type { StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { readJson } from '../files.ts';
import { requireReference } from './judge-reference.ts';

/** A reference state of a file, one that `policy` takes. @throws ToolError `file_unreadable`, `policy_invalid`, `reference_invalid` */
export async function readReference(file: string, policy: MeasuredBootPolicy): Promise<StrictReferenceJson> {
  const { json } = await readJson(file, 'reference state');
  requireReference(policy, json, file);
  // What `strict` and `example` take has these members.
  return json as unknown as StrictReferenceJson;
}
