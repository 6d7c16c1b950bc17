import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { JSON_API, resourceRequest } from '@keylime/api/push-document';
import { type CollectedEvidence, collectedAttributes } from '@keylime/api/push-evidence';
import type { QuoteParameters, RequestedEvidence } from '@keylime/api/push-parameters';
import { proofAttributes, sessionRequestAttributes } from '@keylime/api/push-session';
import { encode } from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import { isJsonObject, type Json } from '@keylime/core/json';
import { recordImaNg } from '@keylime/ima/record';
import { BOOT_BANKS, measureBoot } from '@keylime/software-tpm/measure-boot';
import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { type Ak, createAk, loadAk } from '@keylime/tpm/ak';
import { Shutdown } from '@keylime/tpm/commands';
import { createEk } from '@keylime/tpm/ek';
import { certify } from '@keylime/tpm/iak';
import { flush } from '@keylime/tpm/object';
import { extendPcr } from '@keylime/tpm/pcr';
import { encodePublic, TpmtPublic } from '@keylime/tpm/public';
import { parseQuote } from '@keylime/tpm/quote';
import { quotePcrs } from '@keylime/tpm/quote-device';
import { openTransport } from '@keylime/tpm/tcti';
import { openTpm, type Tpm } from '@keylime/tpm/tpm';
import type { KernelRecord } from './ima-records.ts';
import { type Answer, type AttackedVerifier, enrolment, type Question } from './verifier-harness.ts';

/** A machine in the hands of root, with a TPM that does what it is told, and an agent written by hand. */
export type PushMachine = {
  readonly id: string;
  readonly ak: () => Ak;
  readonly tpm: () => Tpm;
  /** Measures a file with its own path as content, or with another one. */
  readonly measure: (file: string, content?: string) => Promise<void>;
  /** Measures whatever this kernel record says. */
  readonly append: (record: KernelRecord) => Promise<void>;
  /** In good order, or by cutting the power. */
  readonly reboot: (how?: 'shutdown' | 'power cut') => Promise<void>;
  /** Seconds since 1970 at which it says that it booted. */
  bootTime: number;
  /** Enrols it at the verifier. */
  readonly enrol: (changes?: Readonly<Record<string, unknown>>) => Promise<void>;
  readonly beginSession: () => Promise<Answer>;
  /** The answer to the proof; `token` is kept for what follows. */
  readonly login: (id?: string) => Promise<Answer>;
  token: string;
  /** Sends something with the token. */
  readonly send: (
    method: 'POST' | 'PATCH' | 'GET',
    where: string,
    attributes?: object,
    more?: Partial<Question>,
  ) => Promise<Answer>;
  readonly capabilities: (changes?: { readonly quote?: object; readonly ima?: object }) => object;
  readonly offer: (capabilities?: object) => Promise<Answer>;
  /** Truthful evidence for what was asked. */
  readonly evidence: (negotiated: Answer) => Promise<CollectedEvidence[]>;
  /** One attestation from capabilities to the answer to its evidence. */
  readonly push: () => Promise<Answer>;
  /** As `push`, and waits for its verdict: the attestation as an administrator sees it. */
  readonly attest: () => Promise<Verdict>;
  readonly verdict: () => Promise<Verdict>;
  readonly stop: () => Promise<void>;
};

export type Verdict = {
  readonly number: number;
  readonly evaluation: string;
  readonly failure_reason?: string;
  readonly results?: readonly { readonly event_id: string; readonly context: { readonly message: string } }[];
};

export const attributesOf = ({ json }: Answer): { readonly [name: string]: Json } => {
  const { data } = json;
  assert.ok(isJsonObject(data) && isJsonObject(data.attributes), JSON.stringify(json));
  return data.attributes;
};

export const requestedBy = (negotiated: Answer): readonly RequestedEvidence[] =>
  attributesOf(negotiated).evidence_requested as unknown as readonly RequestedEvidence[];

export const quoteParametersOf = (negotiated: Answer): QuoteParameters =>
  requestedBy(negotiated)[0]?.chosen_parameters as QuoteParameters;

/** Code and first error of a refusal. */
export const refusalOf = ({ code, json }: Answer): readonly [number, Json | undefined, Json | undefined] => {
  const [first] = Array.isArray(json.errors) ? json.errors : [];
  return isJsonObject(first) ? [code, first.code ?? first.title, first.detail] : [code, undefined, undefined];
};

const numberOf = ({ json }: Answer): number => (isJsonObject(json.data) ? Number(json.data.id) : Number.NaN);
const JSON_HEADERS = { 'content-type': JSON_API };
const IMA_PCR = 10;

/** `bootLog` is what its firmware measures; without one its boot leaves PCRs 0 to 9 as they were. */
export async function startPushMachine(
  verifier: AttackedVerifier,
  id: string,
  { bootLog }: { readonly bootLog?: Buffer } = {},
): Promise<PushMachine> {
  const swtpm = await startSwtpm({ certificates: false, ...(bootLog && { banks: BOOT_BANKS }) });
  if (bootLog !== undefined) await measureBoot(swtpm.tcti, bootLog);
  let lines: string[] = [];
  const open = async () => openTpm({ transport: await openTransport(swtpm.tcti) });
  let tpm = await open();
  const withEk = async <T>(use: (ek: Awaited<ReturnType<typeof createEk>>) => Promise<T>): Promise<T> => {
    const ek = await createEk(tpm, 'ecc256');
    try {
      return await use(ek);
    } finally {
      await flush(tpm, ek);
    }
  };
  let ak = await withEk((ek) => createAk(tpm, { ek, encryption: 'ecc256', signing: 'ecdsa', hash: 'sha256' }));

  async function append({ line, extend }: KernelRecord): Promise<void> {
    lines.push(line);
    await extendPcr(tpm, IMA_PCR, [{ bank: 'sha256', digest: extend }]);
  }
  function record(file: string, fileDigest: Uint8Array): Promise<void> {
    const { line, extendValue } = recordImaNg(file, 'sha256', fileDigest);
    return append({ line, extend: Buffer.from(extendValue('sha256')) });
  }
  const bootAggregate = () => record('boot_aggregate', digest('sha256', Buffer.alloc(320)));
  await bootAggregate();

  const machine: PushMachine = {
    id,
    bootTime: 1_700_000_000,
    token: '',
    ak: () => ak,
    tpm: () => tpm,
    append,
    measure: (file, content = file) => record(file, digest('sha256', Buffer.from(content))),
    async reboot(how = 'shutdown') {
      if (how === 'shutdown') await tpm.run(Shutdown, { parameters: { shutdownType: 'clear' } });
      await tpm.close();
      await swtpm.kill();
      await swtpm.restart();
      if (bootLog !== undefined) await measureBoot(swtpm.tcti, bootLog);
      tpm = await open();
      ak = await withEk((ek) => loadAk(tpm, { ek, public: ak.public, private: ak.private }));
      lines = [];
      machine.bootTime += 1000;
      await bootAggregate();
    },
    async enrol(changes) {
      const registered = { ak_tpm: encodePublic(ak.public).toString('base64'), mtls_cert: '' };
      const body = enrolment({ port: 0, registered }, { supported_version: '2.6', ...changes });
      const answer = await verifier.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json: body });
      assert.deepEqual([answer.code, answer.status], [200, 'Success'], answer.text);
    },
    beginSession: () => machine.send('POST', '/v3.0/sessions', sessionRequestAttributes(id)),
    async login(claimed = id) {
      const begun = await machine.send('POST', '/v3.0/sessions', sessionRequestAttributes(claimed));
      assert.equal(begun.code, 200, begun.text);
      const [requested] = attributesOf(begun).authentication_requested as readonly {
        readonly chosen_parameters: { readonly challenge: string };
      }[];
      const challenge = Buffer.from(requested?.chosen_parameters.challenge ?? '', 'base64');
      const { attest, signature } = await certify(tpm, { object: ak, signer: ak, qualifyingData: challenge });
      const sessionId = isJsonObject(begun.json.data) ? begun.json.data.id : '';
      const proved = await machine.send(
        'PATCH',
        `/v3.0/sessions/${sessionId}`,
        proofAttributes(claimed, attest, signature),
      );
      const { token } = attributesOf(proved);
      if (typeof token === 'string') machine.token = token;
      return proved;
    },
    send: (method, where, attributes, more = {}) =>
      verifier.ask({
        method,
        path: where.startsWith('/') ? where : `/v3.0/agents/${id}/attestations${where === '' ? '' : `/${where}`}`,
        ...(attributes && {
          json: resourceRequest(where.includes('/sessions') ? 'session' : 'attestation', attributes),
        }),
        as: 'nobody',
        headers: { ...JSON_HEADERS, ...(machine.token !== '' && { authorization: `Bearer ${machine.token}` }) },
        ...more,
      }),
    capabilities: ({ quote = {}, ima = {} } = {}) => ({
      evidence_supported: [
        {
          evidence_class: 'certification',
          evidence_type: 'tpm_quote',
          capabilities: {
            component_version: '2.0',
            hash_algorithms: ['sha256'],
            signature_schemes: ['ecdsa', 'rsassa'],
            available_subjects: { sha256: Array.from({ length: 24 }, (_, pcr) => pcr) },
            certification_keys: [
              {
                key_class: 'asymmetric',
                key_algorithm: 'ecc',
                key_size: 256,
                server_identifier: 'ak',
                local_identifier: ak.name.toString('hex'),
                public: encode(TpmtPublic, ak.public).toString('base64'),
              },
            ],
            ...quote,
          },
        },
        {
          evidence_class: 'log',
          evidence_type: 'ima_log',
          capabilities: {
            entry_count: lines.length,
            supports_partial_access: true,
            appendable: true,
            formats: ['text/plain'],
            ...ima,
          },
        },
        ...(bootLog
          ? [
              {
                evidence_class: 'log',
                evidence_type: 'uefi_log',
                capabilities: {
                  formats: ['application/octet-stream'],
                  supports_partial_access: false,
                  appendable: false,
                },
              },
            ]
          : []),
      ],
      system_info: { boot_time: new Date(machine.bootTime * 1000).toISOString() },
    }),
    offer: (capabilities = machine.capabilities()) => machine.send('POST', '', capabilities),
    async evidence(negotiated) {
      const collected: CollectedEvidence[] = [];
      for (const { evidence_type: type, chosen_parameters: chosen } of requestedBy(negotiated)) {
        if (type === 'tpm_quote') {
          const { challenge, selected_subjects: selected } = chosen as QuoteParameters;
          const mask = (selected.sha256 ?? []).reduce((bits, pcr) => bits | (1 << pcr), 0);
          const quote = parseQuote(await quotePcrs(tpm, { ak, nonce: Buffer.from(challenge, 'base64'), mask }));
          assert.ok('attest' in quote);
          const [message = '', signature = '', subject_data = ''] = [quote.attest, quote.signature, quote.pcrBlob].map(
            (one) => one.toString('base64'),
          );
          collected.push({
            evidence_class: 'certification',
            evidence_type: 'tpm_quote',
            data: { message, signature, subject_data },
          });
        }
        if (type === 'uefi_log') {
          const entries = bootLog?.toString('base64') ?? '';
          collected.push({ evidence_class: 'log', evidence_type: 'uefi_log', data: { entries } });
        }
        if (type === 'ima_log') {
          const rest = lines.slice((chosen as { readonly starting_offset?: number }).starting_offset);
          collected.push({
            evidence_class: 'log',
            evidence_type: 'ima_log',
            data: { entry_count: rest.length, entries: rest.join('') },
          });
        }
      }
      return collected;
    },
    async push() {
      if (machine.token === '') assert.equal((await machine.login()).code, 200);
      const negotiated = await machine.offer();
      assert.equal(negotiated.code, 201, negotiated.text);
      const sent = await machine.send(
        'PATCH',
        String(numberOf(negotiated)),
        collectedAttributes(await machine.evidence(negotiated)),
      );
      assert.equal(sent.code, 202, sent.text);
      return sent;
    },
    async attest() {
      await machine.push();
      return machine.verdict();
    },
    async verdict() {
      for (const deadline = performance.now() + 20_000; ; ) {
        const answer = await verifier.ask({ path: `/v3.0/agents/${id}/attestations/latest` });
        assert.equal(answer.code, 200, answer.text);
        const attributes = attributesOf(answer);
        if (attributes.stage === 'verification_complete') {
          return { ...(attributes as unknown as Omit<Verdict, 'number'>), number: numberOf(answer) };
        }
        if (performance.now() > deadline) assert.fail(`no verdict: ${answer.text}\n${verifier.log().slice(-2000)}`);
        await sleep(10);
      }
    },
    async stop() {
      await tpm.close();
      await swtpm.stop();
    },
  };
  return machine;
}
