import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { digest } from '@keylime/core/digest';
import { openRecorder } from '@keylime/software-tpm/recorder';
import { AGENT_ID, type AttackedAgent, type Delivery, openAttackedAgent } from './agent-harness.ts';
import {
  type AttackedVerifier,
  base64,
  runtimePolicy,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';

/** A verifier and an agent, each a process, on a machine with a measurement list, and a gate between the two. */
export type PayloadScene = {
  readonly agent: AttackedAgent;
  readonly verifier: AttackedVerifier;
  readonly gate: Gate;
  /** Boots the machine, which measures these files, and starts its agent; to be killed before it is booted again. */
  readonly boot: (files?: readonly string[]) => Promise<void>;
  /** Starts the agent of the machine as it is. */
  readonly startAgent: () => Promise<void>;
  /** What a tenant does: gives U to the agent and V to the verifier. */
  readonly add: (delivery: Delivery) => Promise<void>;
  readonly enrol: (delivery: Delivery) => Promise<void>;
};

/**
 * The verifier asks the agent through it. It shows the agent's own certificate, and the agent sees a verifier's, so that
 * neither notices; in between, requests can be held.
 */
export type Gate = {
  readonly port: number;
  /** Paths of the requests that went through. */
  readonly passed: readonly string[];
  /** The next request with this path, before the agent gets it (or its answer, before the verifier does): nothing happens until it is let go. */
  readonly hold: (what: 'request' | 'answer', path: RegExp) => Promise<Held>;
};

export type Held = {
  /** Lets it go on. */
  readonly pass: () => void;
  /** Closes the connection of who waits for the answer. */
  readonly cut: () => void;
};

/** The file that the policy of the machine allows; others it does not. */
export const ALLOWED = '/usr/bin/allowed';
const LIST = 'ascii_runtime_measurements';

/** `options` of the verifier; `agentEnv`: more variables for the agent. */
export async function openPayloadScene(
  t: TestContext,
  { agentEnv = {}, ...options }: VerifierOptions & { readonly agentEnv?: Readonly<Record<string, string>> } = {},
): Promise<PayloadScene> {
  const agent = await openAttackedAgent(t);
  const settings = { max_retries: '1000', retry_interval: '0.1', quote_interval: '0.1', ...options.settings };
  const verifier = await startAttackedVerifier({ ...options, settings, process: true, ca: agent.ca });
  t.after(() => verifier.stop());
  const list = path.join(agent.home, LIST);
  const startAgent = () => agent.start({ ima_ml_path: list }, agentEnv);
  let booted = false;
  async function boot(files: readonly string[] = [ALLOWED]): Promise<void> {
    if (booted) await agent.restartTpm();
    booted = true;
    rmSync(list, { force: true });
    const recorder = await openRecorder(agent.tcti, list);
    for (const file of files) {
      const program = path.join(agent.home, 'program');
      writeFileSync(program, file);
      await recorder.measure(file, program);
    }
    await recorder.close();
    await startAgent();
  }
  await boot();
  const gate = await openGate(t, agent);
  const allowed = [digest('sha256', Buffer.from(ALLOWED)).toString('hex')];
  const policy = base64(runtimePolicy({ digests: { [ALLOWED]: allowed } }));
  const enrol = ({ v }: Delivery) =>
    verifier.enrol(
      { id: AGENT_ID, port: gate.port, registered: agent.registered() },
      { v: v.toString('base64'), runtime_policy: policy },
    );
  return {
    ...{ agent, verifier, gate, boot, startAgent, enrol },
    async add(delivery) {
      await agent.post('/v2.6/keys/ukey', delivery.ukey);
      await enrol(delivery);
    },
  };
}

type Hold = { readonly what: 'request' | 'answer'; readonly path: RegExp; readonly held: (one: Held) => void };

async function openGate(t: TestContext, agent: AttackedAgent): Promise<Gate> {
  const own = (name: string) => readFileSync(path.join(agent.home, name), 'utf8');
  const passed: string[] = [];
  let holds: readonly Hold[] = [];

  /** Resolves when the next holder lets it go on; `false` if that cut it off. */
  async function held(what: Hold['what'], url: string, response: ServerResponse): Promise<boolean> {
    const hold = holds.find((one) => one.what === what && one.path.test(url));
    if (hold === undefined) return true;
    holds = holds.filter((one) => one !== hold);
    return new Promise<boolean>((resolve) => {
      const cut = () => {
        response.destroy();
        resolve(false);
      };
      hold.held({ pass: () => resolve(true), cut });
    });
  }

  async function forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '/';
    const body = Buffer.concat(await request.toArray());
    if (!(await held('request', url, response))) return;
    const { method, headers } = request;
    const { certPem: cert, keyPem: key } = agent.verifier;
    const target = { host: '127.0.0.1', port: agent.port, rejectUnauthorized: false, agent: false, cert, key };
    const call = httpsRequest({ ...target, method, path: url, headers });
    call.end(body);
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    const text = Buffer.concat(await answer.toArray());
    passed.push(url);
    if (!(await held('answer', url, response))) return;
    response.writeHead(answer.statusCode ?? 500, { 'content-type': 'application/json' }).end(text);
  }

  const server = createServer(
    { key: own('server-private.pem'), cert: own('server-cert.crt'), ca: agent.ca.certPem, requestCert: true },
    // An agent that is not there, or a verifier that is gone: the connection ends, as it would without a gate.
    (request, response) => void forward(request, response).catch(() => response.destroy()),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.close();
    server.closeAllConnections();
  });
  return {
    port: (server.address() as AddressInfo).port,
    passed,
    hold: (what, url) =>
      new Promise((resolve) => {
        holds = [...holds, { what, path: url, held: resolve }];
      }),
  };
}
