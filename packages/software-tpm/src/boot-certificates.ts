import { DEFAULT_CA_OPTIONS } from '@keylime/pki/ca-options';
import { issueCaCertificate } from '@keylime/pki/issue';
import { generateP256Key } from '@keylime/pki/private-key';
import * as x509 from '@keylime/pki/x509';

/** Certificates, DER, that the firmware of a machine and its shim hold. They stay the same from boot to boot. */
export type BootCertificates = {
  /** PK: the owner of the platform. */
  readonly platform: Buffer;
  /** KEK: who may change `db` and `dbx`. */
  readonly keyExchange: Buffer;
  /** In `db`: who signed shim. */
  readonly image: Buffer;
  /** Built into shim: who signed GRUB and the kernel. */
  readonly vendor: Buffer;
};

/** New certificates on P-256, each self-signed; their keys are forgotten, since nothing here is really signed. */
export async function makeBootCertificates(): Promise<BootCertificates> {
  const [platform, keyExchange, image, vendor] = await Promise.all([
    certificate('Example platform key'),
    certificate('Example key exchange key'),
    certificate('Example image signer'),
    certificate('Example boot loader signer'),
  ]);
  return { platform, keyExchange, image, vendor };
}

async function certificate(commonName: string): Promise<Buffer> {
  const name = new x509.Name([{ CN: [{ utf8String: commonName }] }]);
  const issued = await issueCaCertificate(await generateP256Key(), DEFAULT_CA_OPTIONS, new Date(), 1, name);
  return Buffer.from(issued.rawData);
}
