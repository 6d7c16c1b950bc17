import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { pythonJson } from '@keylime/api/python-json';
import { isJsonObject, parseJson } from '@keylime/core/json';
import {
  randomSerialHex,
  signingAlgorithm,
  signingKey,
  subjectAlternativeNames,
  x509PublicKey,
} from '@keylime/pki/issue';
import { publicKeyPem } from '@keylime/pki/private-key';
import { createFile, PRIVATE_FILE_MODE } from '@keylime/pki/safe-files';
import * as x509 from '@keylime/pki/x509';
import { ecdsaKeyId, signEnvelope, x509KeyId } from '@keylime/policies/dsse';
import type { Log } from '@keylime/service/log';
import { readInput, type Writer, writeArtifact } from './files.ts';
import { readPolicy } from './policy-file.ts';
import { reason, ToolError } from './tool-error.ts';

/** The options of `sign runtime`. */
export type SignOptions = {
  readonly runtimePolicy: string;
  /** Existing key. */
  readonly keyfile?: string;
  readonly keyPasswordFile?: string;
  /** Where a new key goes. */
  readonly keypath?: string;
  readonly publicKeyOutfile?: string;
  readonly backend: 'ecdsa' | 'x509';
  readonly certOutfile?: string;
};

const DEFAULT_KEY_PATH = 'keylime-ecdsa-key.pem';
const DAY_MS = 86_400_000;
/** [compat] What the existing tool calls itself in its certificates. */
const CERTIFICATE_NAME = 'dsse_lib';
const CERTIFICATE_DAYS = 30;

/**
 * Signs a runtime policy, which must be valid, with a key that exists or one that is made now. [compat] What is signed is
 * the policy written anew, as Python prints JSON.
 * @throws ToolError
 */
export async function signRuntimePolicy(options: SignOptions, now: Date, stdout: Writer, log: Log): Promise<string> {
  if (options.keyfile !== undefined && options.keypath !== undefined) {
    throw new ToolError(
      'usage',
      '--keyfile names a key that exists, --keypath where to write a new one: give one of them',
    );
  }
  if (options.backend === 'x509' && options.certOutfile === undefined) {
    throw new ToolError('usage', '--backend x509 needs --cert-outfile: where to write the certificate');
  }
  const { json, isSigned } = await readPolicy(options.runtimePolicy).catch((error: unknown) => {
    if (error instanceof ToolError && error.code === 'policy_signature') {
      throw new ToolError('policy_invalid', `${options.runtimePolicy} is signed already`);
    }
    throw error;
  });
  if (isSigned || !isJsonObject(json)) throw new ToolError('policy_invalid', 'The policy is not a JSON object');
  const key =
    options.keyfile === undefined ? await newKey(options.keypath ?? DEFAULT_KEY_PATH, log) : await oldKey(options);
  const keyid = options.backend === 'ecdsa' ? ecdsaKeyId(key) : await certify(key, options.certOutfile, now, stdout);
  if (options.publicKeyOutfile !== undefined) writeArtifact(options.publicKeyOutfile, publicKeyPem(key), stdout);
  const envelope = parseJson(signEnvelope(Buffer.from(pythonJson(json)), key, keyid));
  return pythonJson(envelope ?? null);
}

async function oldKey({ keyfile = '', keyPasswordFile }: SignOptions): Promise<KeyObject> {
  const pem = await readInput(keyfile, 'key');
  const passphrase =
    keyPasswordFile === undefined
      ? undefined
      : (await readInput(keyPasswordFile, 'password')).toString('utf8').replace(/\r?\n$/, '');
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: pem, format: 'pem', ...(passphrase !== undefined && { passphrase }) });
  } catch (cause) {
    const hint =
      passphrase === undefined && pem.includes('ENCRYPTED') ? ': it is encrypted, give --key-password-file' : '';
    throw new ToolError('key_invalid', `The key ${keyfile} is not a private key in PEM that can be read${hint}`, {
      cause,
    });
  }
  if (key.asymmetricKeyType === 'ec') return key;
  throw new ToolError('key_invalid', `The key ${keyfile} is of type ${key.asymmetricKeyType}: an EC key is wanted`);
}

/** A new P-256 key in the form of the existing tool (SEC 1), for its owner alone. A file that is there stays. */
async function newKey(file: string, log: Log): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  let isNew: boolean;
  try {
    isNew = await createFile(file, privateKey.export({ format: 'pem', type: 'sec1' }), PRIVATE_FILE_MODE);
  } catch (cause) {
    throw new ToolError('file_unwritable', `Cannot write the new key ${file}: ${reason(cause)}`, { cause });
  }
  if (!isNew) {
    throw new ToolError(
      'file_unwritable',
      `There is already a file ${file}: sign with it by --keyfile, or name another`,
    );
  }
  log.info(`New private key in ${file}`);
  return privateKey;
}

/** A self-signed certificate, in a file, and the key id that holds it. */
async function certify(key: KeyObject, file: string | undefined, now: Date, stdout: Writer): Promise<string> {
  const name = `CN=${CERTIFICATE_NAME}`;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerialHex(),
    subject: name,
    issuer: name,
    notBefore: new Date(now.getTime() - DAY_MS),
    notAfter: new Date(now.getTime() + CERTIFICATE_DAYS * DAY_MS),
    publicKey: await x509PublicKey(key),
    signingKey: await signingKey(key),
    signingAlgorithm: signingAlgorithm(key),
    extensions: [
      subjectAlternativeNames({ dns: [CERTIFICATE_NAME], ip: [] }),
      new x509.BasicConstraintsExtension(false, undefined, true),
    ],
  });
  const pem = `${certificate.toString('pem').trim()}\n`;
  writeArtifact(file, pem, stdout);
  return x509KeyId(pem);
}
