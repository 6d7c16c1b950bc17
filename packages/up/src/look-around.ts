import { writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { programOf } from './process.ts';
import type { Trial } from './trial.ts';

/** Writes the file that a shell sources to use the tools on the trial, and says what can be done with them. */
export async function lookAround({ site, attesters, payload, bootReference }: Trial): Promise<readonly string[]> {
  const file = join(site.folder, 'env');
  const bin = join(dirname(programOf('tenant')), '../../../node_modules/.bin');
  const variables = Object.entries(site.tenantEnvironment).map(([name, value]) => `export ${name}='${value}'\n`);
  await writeFile(file, `${variables.join('')}export PATH='${bin}':"$PATH"\n`);
  const here = (path: string) => relative(process.cwd(), path);
  const [alpha, , gamma] = attesters;
  if (alpha === undefined || gamma === undefined) return [];
  const policy = here(join(alpha.machine.folder, 'policy.json'));
  return [
    'Everything keeps running; Ctrl-C stops it. Look around in another terminal:',
    `  . ${here(file)}`,
    `  keylime_tenant -c cvstatus -u ${gamma.id}   # the verifier's word on gamma`,
    `  ls ${gamma.keylimeDir}/secure/unzipped        # what it got as its payload`,
    `  cat ${gamma.keylimeDir}/revoked-*.json        # what it was told of alpha and beta`,
    `  keylime_ca list --all -d ${here(payload.caDir)}            # certificates, the revoked ones too`,
    `  keylime-policy show event-log ${here(gamma.machine.bootLog)}`,
    'Allow what alpha ran, and trust it again, with a new certificate:',
    `  keylime-policy create runtime -m ${here(alpha.machine.measurementList)} -o ${policy}`,
    `  keylime_tenant -c update -u ${alpha.id} --runtime-policy ${policy} \\`,
    `    --mb-policy ${here(bootReference)} --cert ${here(payload.caDir)} --include ${here(payload.includeDir)}`,
    `Logs: ${here(join(site.folder, 'logs'))}`,
  ];
}
