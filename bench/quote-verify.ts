import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs, promisify } from 'node:util';
import { softwareAk } from '@keylime/testing/software-ak';
import { encodePublic } from '@keylime/tpm/public';
import { verifyQuote } from '@keylime/tpm/quote';

const KEYS = ['rsa2048', 'ecc256'] as const;
const NONCE = 'AbCdEfGhIjKlMnOpQrSt';
const MASK = 0xffff;

const fixtures = KEYS.map((encryption) => {
  const ak = softwareAk({ encryption });
  return { encryption, ak, text: ak.quote({ nonce: Buffer.from(NONCE), mask: MASK, bindingPublicKeyPem: 'key' }) };
});

/** CPU time of this process, so that a busy machine does not change the result. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Calls `verify` for `seconds` of CPU time after a tenth of that for warming up; calls per second of it. */
function perSecond(seconds: number, verify: () => boolean): number {
  const measure = (duration: number) => {
    const start = cpuSeconds();
    let calls = 0;
    while (cpuSeconds() - start < duration) {
      for (let i = 0; i < 50; i++) if (!verify()) throw new Error('a quote was refused');
      calls += 50;
    }
    return calls / (cpuSeconds() - start);
  };
  measure(seconds / 10);
  return measure(seconds);
}

function ours(seconds: number) {
  return Object.fromEntries(
    fixtures.map(({ encryption, ak, text }) => {
      const options = { text, ak: ak.public, hashAlg: 'sha256', nonce: Buffer.from(NONCE), mask: MASK } as const;
      const cached = perSecond(seconds, () => verifyQuote({ ...options, akKey: ak.publicKey }).ok);
      return [encryption, { perSecond: Math.round(cached), microseconds: Number((1e6 / cached).toFixed(1)) }];
    }),
  );
}

/** The existing verifier's check of the same quotes: form, signature, nonce and PCR digest, no clock and no policies. */
const PYTHON = `
import json, sys, time
from keylime.tpm.tpm_main import Tpm
task = json.load(sys.stdin)
tpm = Tpm()
results = {}
for one in task["quotes"]:
    def check():
        failure = tpm.check_quote(None, task["nonce"], None, one["text"], one["ak"], skip_pcr_check=True, skip_clock_check=True)
        if failure: raise SystemExit("a quote was refused")
    def measure(seconds):
        calls, start = 0, time.process_time()
        while time.process_time() - start < seconds:
            for _ in range(50): check()
            calls += 50
        return calls / (time.process_time() - start)
    measure(task["seconds"] / 10)
    results[one["key"]] = measure(task["seconds"])
print(json.dumps(results))
`;

const findPython = (): string | undefined =>
  [process.env.KEYLIME_PYTHON, 'test/interop/.installed/python/bin/python'].find(
    (path) => path !== undefined && existsSync(path),
  );

async function python(seconds: number) {
  const path = findPython();
  if (path === undefined)
    return { notRun: 'set KEYLIME_PYTHON to a Python that has the package keylime, or run npm run interop' };
  const running = promisify(execFile)(path, ['-c', PYTHON]);
  const quotes = fixtures.map(({ encryption, ak, text }) => ({
    key: encryption,
    text,
    ak: encodePublic(ak.public).toString('base64'),
  }));
  running.child.stdin?.end(JSON.stringify({ nonce: NONCE, seconds, quotes }));
  const { stdout } = await running;
  const results = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, number>;
  return Object.fromEntries(
    Object.entries(results).map(([key, rate]) => [
      key,
      { perSecond: Math.round(rate), microseconds: Number((1e6 / rate).toFixed(1)) },
    ]),
  );
}

/** Quotes of 17 PCRs verified per second of CPU time, RSA 2048 and P-256; the existing verifier's function in the same run. */
export async function run(args: readonly string[]): Promise<object> {
  const { values } = parseArgs({
    args: [...args],
    options: { seconds: { type: 'string', default: '3' } },
    strict: false,
  });
  const seconds = Number(values.seconds);
  return { benchmark: 'quote-verify', seconds, pcrs: 17, ours: ours(seconds), python: await python(seconds) };
}
