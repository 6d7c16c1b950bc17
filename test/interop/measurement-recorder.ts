import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { appendFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';

const IMA_PCR = 10;

/** Does what the kernel's IMA does, for paths and digests that the test names: list entry, then PCR 10. */
export type MeasurementRecorder = {
  /** ASCII measurement list, as `ascii_runtime_measurements`. */
  readonly list: string;
  readonly measure: (path: string, sha256: string) => Promise<void>;
};

/** `d-ng` and `n-ng` as they are hashed (Linux Documentation/security/IMA-templates.rst): u32 little-endian length, then data. */
function templateData(path: string, sha256: string): Buffer {
  const digest = Buffer.concat([Buffer.from('sha256:\0'), Buffer.from(sha256, 'hex')]);
  return Buffer.concat(
    [digest, Buffer.from(`${path}\0`)].map((field) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(field.length);
      return Buffer.concat([length, field]);
    }),
  );
}

/** TPM2_PCR_Extend of the SHA-256 bank with the empty password (TPM 2.0 Part 3 r1.59, 22.2). */
function pcrExtend(pcr: number, sha256: Buffer): Buffer {
  const header = '8002 00000041 00000182 00000000';
  const password = '00000009 40000009 0000 00 0000';
  const command = Buffer.from(`${header} ${password} 00000001 000b`.replaceAll(' ', ''), 'hex');
  command.writeUInt32BE(pcr, 10);
  return Buffer.concat([command, sha256]);
}

async function send(port: number, command: Buffer): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write(command);
    const [response] = await once(socket, 'data');
    const code = Buffer.isBuffer(response) && response.length >= 10 ? response.readUInt32BE(6) : -1;
    if (code !== 0) throw new Error(`TPM2_PCR_Extend answered 0x${code.toString(16)}`);
  } finally {
    socket.destroy();
  }
}

/** Starts an empty list in the file `list`; `port` is the data channel of the software TPM's multiplexer. */
export async function startRecorder(list: string, port: number): Promise<MeasurementRecorder> {
  await writeFile(list, '');
  let last = Promise.resolve();
  const measure = async (path: string, sha256: string) => {
    const data = templateData(path, sha256);
    const templateHash = createHash('sha1').update(data).digest('hex');
    // The list first, as the kernel does: a quote made in between is behind the list, never ahead of it.
    await appendFile(list, `${IMA_PCR} ${templateHash} ima-ng sha256:${sha256} ${path}\n`);
    await send(port, pcrExtend(IMA_PCR, createHash('sha256').update(data).digest()));
  };
  return {
    list,
    measure: (path, sha256) => {
      last = last.then(() => measure(path, sha256));
      return last;
    },
  };
}
