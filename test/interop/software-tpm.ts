import { mkdir, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { startTpmMultiplexer } from '@keylime/software-tpm/tpm-multiplexer';
import { freePorts, runProgram, startProgram, waitFor } from './processes.ts';

/** State of a manufactured software TPM, to be copied for each machine, and the CAs of its EK certificate. */
export type ManufacturedTpm = {
  readonly state: string;
  /** PEM certificates: root and issuer of the EK certificate. */
  readonly endorsers: readonly string[];
};

/** Makes a TPM with EK, EK certificate and SHA-256 bank in `folder`, with a manufacturer's CA of its own. */
export async function manufactureTpm(folder: string): Promise<ManufacturedTpm> {
  const [state, ca] = [join(folder, 'state'), join(folder, 'ca')];
  await mkdir(state, { recursive: true });
  await mkdir(ca, { recursive: true });
  const file = async (name: string, lines: readonly string[]) => {
    await writeFile(join(folder, name), `${lines.join('\n')}\n`);
    return join(folder, name);
  };
  const authority = await file('localca.conf', [
    `statedir = ${ca}`,
    `signingkey = ${ca}/signkey.pem`,
    `issuercert = ${ca}/issuercert.pem`,
    `certserial = ${ca}/certserial`,
  ]);
  const options = await file('localca.options', [
    '--platform-manufacturer Testing',
    '--platform-version 1.0',
    '--platform-model Loopback',
  ]);
  const setup = await file('setup.conf', [
    'create_certs_tool = /usr/bin/swtpm_localca',
    `create_certs_tool_config = ${authority}`,
    `create_certs_tool_options = ${options}`,
    'active_pcr_banks = sha256',
  ]);
  const args = ['--tpm2', '--tpmstate', state, '--config', setup, '--createek', '--create-ek-cert'];
  const more = ['--create-platform-cert', '--lock-nvram', '--pcr-banks', 'sha256'];
  const made = await runProgram({ command: 'swtpm_setup', args: [...args, ...more] });
  if (made.code !== 0) throw new Error(`swtpm_setup failed (${made.code}):\n${made.stdout}${made.stderr}`);
  return { state, endorsers: [join(ca, 'swtpm-localca-rootca-cert.pem'), join(ca, 'issuercert.pem')] };
}

export type SoftwareTpm = {
  /** Of the multiplexer: any number of programs may use it at once. */
  readonly port: number;
  readonly tcti: string;
  readonly stop: () => Promise<void>;
};

/** Starts swtpm on `state` and a multiplexer before it. */
export async function startSoftwareTpm(state: string, log: string): Promise<SoftwareTpm> {
  const [port = 0] = await freePorts(1, true);
  const args = ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--flags', 'not-need-init,startup-clear'];
  const channels = ['--server', `type=tcp,port=${port}`, '--ctrl', `type=tcp,port=${port + 1}`];
  const program = await startProgram('swtpm', { command: 'swtpm', args: [...args, ...channels] }, log);
  try {
    // Only the control channel is tried: swtpm takes one data client, and its end may end swtpm.
    const probe = () =>
      new Promise<true | undefined>((resolve) => {
        const socket = connect(port + 1, '127.0.0.1');
        socket.once('connect', () => resolve(true)).once('error', () => resolve(undefined));
        socket.once('connect', () => socket.destroy());
      });
    await waitFor('swtpm listens', probe, { timeoutMs: 10_000, everyMs: 20, program });
    const multiplexer = await startTpmMultiplexer({ swtpm: { host: '127.0.0.1', port } });
    return {
      port: multiplexer.port,
      tcti: `swtpm:host=${multiplexer.host},port=${multiplexer.port}`,
      stop: async () => {
        await multiplexer.close();
        await program.stop();
      },
    };
  } catch (cause) {
    await program.stop();
    throw cause;
  }
}
