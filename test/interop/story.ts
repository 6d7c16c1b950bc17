import { join } from 'node:path';
import { openSite, type Site, type SiteOptions } from './harness.ts';
import { PARTS } from './launchers.ts';
import { logTail } from './processes.ts';
import { PULL_STEPS } from './pull-story.ts';
import { PUSH_STEPS } from './push-story.ts';

export type Step = { readonly step: string; readonly ms: number; readonly problem?: string };
export type Story = { readonly steps: readonly Step[]; readonly logs?: Readonly<Record<string, string>> };

const STEPS = { pull: PULL_STEPS, push: PUSH_STEPS } as const;

/** Plays the whole story on a new site; stops at the first step that fails, and then brings the ends of the logs. `opened` is told the site. */
export async function playStory(options: SiteOptions, opened: (site: Site) => void): Promise<Story> {
  const done: Step[] = [];
  let since = performance.now();
  let step = 'site is laid out';
  const lap = () => {
    const ms = Math.round(performance.now() - since);
    since = performance.now();
    return ms;
  };
  try {
    await using site = await openSite(options);
    opened(site);
    done.push({ step, ms: lap() });
    for (const next of STEPS[options.model]) {
      step = next.step;
      await next.run(site, options.folder);
      done.push({ step, ms: lap() });
    }
    return { steps: done };
  } catch (cause) {
    done.push({ step, ms: lap(), problem: cause instanceof Error ? cause.message : String(cause) });
    const logs = PARTS.map((part) => [part, logTail(join(options.folder, 'logs', `${part}.log`))] as const);
    return { steps: done, logs: Object.fromEntries(logs.filter(([, text]) => text !== '(no log)')) };
  }
}
