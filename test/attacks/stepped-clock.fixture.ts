import { existsSync, readFileSync } from 'node:fs';

/**
 * Preloaded into a process, this gives it a clock that a test sets: by the milliseconds that stand in the file that
 * STEPPED_CLOCK names. Timers go on as they are, as they do when an operator sets the clock of a machine.
 */
const file = process.env.STEPPED_CLOCK ?? '';
const realNow = Date.now;
let step = 0;
setInterval(() => {
  step = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
}, 20).unref();
const now = () => realNow() + step;

globalThis.Date = new Proxy(Date, {
  construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget),
  get: (target, name, receiver) => (name === 'now' ? now : Reflect.get(target, name, receiver)),
});
