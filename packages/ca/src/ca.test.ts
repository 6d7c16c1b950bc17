import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from './run.ts';

const PASSWORD = 'the password of a test';
const DAY_MS = 86_400_000;
const program = fileURLToPath(new URL('../bin/keylime_ca.mjs', import.meta.url));

type Result = { readonly code: number; readonly stdout: string; readonly stderr: string };

function openFolder(t: TestContext) {
  const workDir = mkdtempSync(path.join(tmpdir(), 'keylime-ca-program-'));
  t.after(() => rmSync(workDir, { recursive: true, force: true }));
  const dir = path.join(workDir, 'ca');
  return {
    workDir,
    dir,
    file: (name: string) => path.join(dir, name),
    read: (name: string) => readFileSync(path.join(dir, name)),
    async run(argv: readonly string[], env: Readonly<Record<string, string>> = {}, now?: Date): Promise<Result> {
      const [stdout, stderr]: [string[], string[]] = [[], []];
      const code = await run(argv, {
        source: {
          env: { KEYLIME_DIR: workDir, KEYLIME_CA_PASSWORD: PASSWORD, ...env },
          roots: { etc: workDir, usrEtc: workDir },
        },
        stdout: { write: (text) => stdout.push(text) },
        stderr: { write: (text) => stderr.push(text) },
        version: '0.0.0-test',
        stopped: () => Promise.resolve(),
        askPassword: async () => assert.fail('nobody is asked'),
        ...(now ? { now: () => now } : {}),
      });
      return { code, stdout: stdout.join(''), stderr: stderr.join('') };
    },
  };
}

const openssl = (...args: readonly string[]) =>
  spawnSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

test('the old and the new form of the command line do the same, in the files of the existing program', async (t) => {
  const ca = openFolder(t);
  assert.match((await ca.run(['-c', 'init'])).stdout, /CA certificate created successfully in /);
  assert.match(
    (await ca.run(['-c', 'create', '-n', 'one'])).stdout,
    /Created certificate for name one successfully in /,
  );
  assert.equal((await ca.run(['create', '--name', 'two', '--dir', ca.dir])).code, 0);
  assert.match((await ca.run(['-c', 'pkg', '-n', 'one'])).stdout, /Creating cert package for one in one-pkg\.zip/);
  assert.equal(statSync(ca.file('one-pkg.zip')).mode & 0o777, 0o600);
  const listing = execFileSync('python3', ['-c', LIST_ZIP, ca.file('one-pkg.zip')], { encoding: 'utf8' });
  assert.deepEqual(listing.trim().split('\n'), [
    ...['one-public.pem 0', 'one-cert.crt 0', 'one-private.pem 0', 'cacert.crt 0', 'cacrl.der 0', 'cacrl.pem 0'],
  ]);
  assert.equal(new X509Certificate(ca.read('two-cert.crt')).serialNumber, '03');
});

const LIST_ZIP = `import sys, zipfile
for entry in zipfile.ZipFile(sys.argv[1]).infolist(): print(entry.filename, entry.compress_type)`;

test('openssl finds certificates good for what they are for, and revoked ones revoked, for every kind of key', async (t) => {
  for (const type of ['rsa', 'p256', 'p384', 'ed25519']) {
    const ca = openFolder(t);
    await ca.run(['init', '--key-type', type]);
    await ca.run(['create', '-n', 'both', '--key-type', type]);
    await ca.run(['create', '-n', 'server', '--usage', 'server', '--san', 'a.example', '--san', '10.0.0.1']);
    const verify = (name: string, purpose: string, ...more: readonly string[]) => {
      const trust = ['-CAfile', ca.file('cacert.crt'), '-CRLfile', ca.file('cacrl.pem'), '-crl_check', '-x509_strict'];
      return openssl('verify', ...trust, '-purpose', purpose, ...more, ca.file(`${name}-cert.crt`));
    };
    for (const purpose of ['sslserver', 'sslclient']) {
      const { status, stderr } = verify('both', purpose);
      assert.equal(status, 0, `${type} ${purpose} ${stderr}`);
    }
    assert.equal(verify('server', 'sslserver', '-verify_hostname', 'a.example').status, 0);
    assert.equal(verify('server', 'sslserver', '-verify_ip', '10.0.0.1').status, 0);
    assert.match(verify('server', 'sslclient').stderr, /unsuitable certificate purpose/);

    assert.equal((await ca.run(['revoke', '-n', 'both', '--reason', 'keyCompromise'])).code, 0);
    assert.match(verify('both', 'sslclient').stderr, /certificate revoked/);
    assert.equal(verify('server', 'sslserver').status, 0);
    const crl = openssl('crl', '-in', ca.file('cacrl.der'), '-inform', 'DER', '-noout', '-text').stdout;
    assert.match(crl, /Version 2/);
    assert.match(crl, /X509v3 CRL Number/);
    assert.match(crl, /X509v3 Authority Key Identifier/);
    assert.match(crl, /Serial Number: 02[\s\S]*Key Compromise/);
    const checked = openssl('crl', '-in', ca.file('cacrl.pem'), '-noout', '-CAfile', ca.file('cacert.crt'));
    assert.match(checked.stderr, /verify OK/);
  }
});

test('revoking again changes nothing, and the CRL keeps dates and reasons while its number grows', async (t) => {
  const ca = openFolder(t);
  const start = Date.now();
  const text = () => openssl('crl', '-in', ca.file('cacrl.pem'), '-noout', '-text').stdout;
  const numberOf = () =>
    BigInt(openssl('crl', '-in', ca.file('cacrl.pem'), '-noout', '-crlnumber').stdout.split('=')[1]?.trim() ?? '');
  await ca.run(['init']);
  for (const name of ['a', 'b']) await ca.run(['create', '-n', name]);
  await ca.run(['revoke', '-n', 'a', '--reason', 'superseded'], {}, new Date(start));
  const [first, date] = [numberOf(), /Revocation Date: .*/.exec(text())?.[0]];
  const der = ca.read('cacrl.der');
  assert.match((await ca.run(['revoke', '-s', '2'])).stdout, /Certificate 2 was revoked already/);
  assert.deepEqual(ca.read('cacrl.der'), der);
  // The clock was set back: the number grows all the same.
  await ca.run(['revoke', '-s', '3'], {}, new Date(start - 5000));
  assert.ok(numberOf() > first);
  assert.match(text(), new RegExp(`Serial Number: 02\\s+${date}[\\s\\S]*Superseded`));
});

test('[MUST] a name does not lead out of the folder', async (t) => {
  const ca = openFolder(t);
  await ca.run(['init']);
  for (const name of ['../x', '/tmp/x', 'a/b', '', '.', '..', 'ca', 'lastserial', 'a\nb']) {
    for (const command of ['create', 'pkg', 'revoke', 'renew']) {
      const { code, stderr } = await ca.run([command, `--name=${name}`]);
      assert.equal(code, 1, `${command} ${JSON.stringify(name)}: ${stderr}`);
    }
  }
  assert.ok(!existsSync(path.join(ca.workDir, 'x-cert.crt')));
});

test('init does not delete a CA unless it is told to', async (t) => {
  const ca = openFolder(t);
  await ca.run(['init']);
  await ca.run(['create', '-n', 'one']);
  const before = ca.read('cacert.crt');
  const { code, stderr } = await ca.run(['-c', 'init']);
  assert.equal(code, 1);
  assert.match(stderr, /holds a CA already\. --force deletes it/);
  assert.deepEqual(ca.read('cacert.crt'), before);
  assert.equal((await ca.run(['-c', 'init', '--force'])).code, 0);
  assert.notDeepEqual(ca.read('cacert.crt'), before);
  assert.ok(!existsSync(ca.file('one-private.pem')));
  assert.doesNotMatch((await ca.run(['list'])).stdout, /one/);
});

test('exit codes are those of the existing program', async (t) => {
  const ca = openFolder(t);
  assert.equal((await ca.run(['-c', 'nonsense'])).code, 255);
  assert.equal((await ca.run(['-c', 'create'])).code, 255);
  assert.equal((await ca.run(['-c', 'revoke'])).code, 255);
  assert.equal((await ca.run(['-c', 'import-priv'])).code, 255);
  assert.equal((await ca.run(['-c', 'create', '-n', 'x'])).code, 1);
  assert.equal((await ca.run(['--nonsense'])).code, 2);
  assert.equal((await ca.run([])).code, 2);
  assert.equal((await ca.run(['--help'])).code, 0);
  assert.equal((await ca.run(['-c', 'init'], { KEYLIME_DIR: path.join(ca.workDir, 'absent') })).code, 255);
  assert.equal((await ca.run(['-c', 'init'], { KEYLIME_CA_CERT_BITS: 'many' })).code, 1);
});

test('a wrong password is told in one line and changes nothing', async (t) => {
  const ca = openFolder(t);
  await ca.run(['init']);
  const before = ca.read('private.yml');
  const { code, stderr } = await ca.run(['create', '-n', 'x'], { KEYLIME_CA_PASSWORD: 'wrong' });
  assert.equal(code, 1);
  assert.match(stderr, /^keylime_ca: Invalid password for keystore[^\n]*\n$/);
  assert.deepEqual(ca.read('private.yml'), before);
});

test('every option of [ca] counts, the lifetime of certificates too', async (t) => {
  const ca = openFolder(t);
  const env = {
    KEYLIME_CA_CERT_LIFETIME: '30',
    KEYLIME_CA_CERT_CA_LIFETIME: '100',
    KEYLIME_CA_CERT_BITS: '3072',
    KEYLIME_CA_CERT_COUNTRY: 'DE',
    KEYLIME_CA_CERT_CA_NAME: 'A CA',
    KEYLIME_CA_CERT_STATE: 'BY',
    KEYLIME_CA_CERT_LOCALITY: 'Augsburg',
    KEYLIME_CA_CERT_ORGANIZATION: 'Org',
    KEYLIME_CA_CERT_ORG_UNIT: 'Unit',
    KEYLIME_CA_CERT_CRL_DIST: 'http://ca.example/crl',
  };
  await ca.run(['init'], env);
  await ca.run(['create', '-n', 'x'], env);
  const root = new X509Certificate(ca.read('cacert.crt'));
  const leaf = new X509Certificate(ca.read('x-cert.crt'));
  assert.equal(root.subject, 'C=DE\nCN=A CA\nST=BY\nL=Augsburg\nO=Org\nOU=Unit');
  const days = ({ validFromDate: from, validToDate: to }: X509Certificate) =>
    Math.floor((to.getTime() - from.getTime()) / DAY_MS);
  assert.deepEqual([days(leaf), days(root)], [30, 100]);
  assert.equal(leaf.publicKey.asymmetricKeyDetails?.modulusLength, 3072);
  assert.match(
    openssl('x509', '-in', ca.file('x-cert.crt'), '-noout', '-text').stdout,
    /URI:http:\/\/ca\.example\/crl/,
  );
});

test('status and renew see what ends, and renew keeps purposes, names and kind of key', async (t) => {
  const ca = openFolder(t);
  const start = new Date();
  const later = new Date(start.getTime() + 250 * DAY_MS);
  await ca.run(['init'], {}, start);
  await ca.run(['create', '-n', 'x', '--usage', 'client', '--san', 'x.example', '--key-type', 'p384'], {}, start);
  assert.equal((await ca.run(['status'], {}, start)).code, 0);
  const due = await ca.run(['status'], {}, later);
  assert.equal(due.code, 1);
  assert.match(due.stdout, /the CRL has ended: renew/);
  assert.match(due.stdout, /the certificate of x has ended or ends soon: renew/);
  const renewed = await ca.run(['renew'], {}, later);
  assert.equal(renewed.code, 0, renewed.stderr);
  const leaf = new X509Certificate(ca.read('x-cert.crt'));
  assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  assert.equal(leaf.subjectAltName, 'DNS:x.example');
  assert.equal(leaf.publicKey.asymmetricKeyDetails?.namedCurve, 'secp384r1');
  assert.equal((await ca.run(['status'], {}, later)).code, 0);
  const rows = JSON.parse((await ca.run(['list', '--all', '--json'], {}, later)).stdout);
  assert.deepEqual(
    rows.map(({ serial, state }: { serial: string; state: string }) => `${serial} ${state}`),
    ['2 replaced', '3 valid'],
  );
  // By name, the one that was replaced is revoked as well: its holder may have kept it.
  await ca.run(['revoke', '-n', 'x'], {}, later);
  const states = JSON.parse((await ca.run(['list', '--json'], {}, later)).stdout);
  assert.deepEqual(
    states.map(({ state }: { state: string }) => state),
    ['revoked', 'revoked'],
  );
});

test('the CA itself can be renewed: what it issued stays valid', async (t) => {
  const ca = openFolder(t);
  const start = new Date();
  await ca.run(['init'], { KEYLIME_CA_CERT_CA_LIFETIME: '400' }, start);
  await ca.run(['create', '-n', 'x'], {}, start);
  const old = ca.read('cacert.crt');
  const later = new Date(start.getTime() + 300 * DAY_MS);
  assert.match((await ca.run(['status'], {}, later)).stdout, /the certificate of the CA ends soon: renew --ca/);
  assert.equal((await ca.run(['renew', '--ca'], {}, later)).code, 0);
  const root = new X509Certificate(ca.read('cacert.crt'));
  assert.notDeepEqual(ca.read('cacert.crt'), old);
  assert.ok(root.publicKey.equals(new X509Certificate(old).publicKey));
  const at = String(Math.floor(later.getTime() / 1000) + 60);
  const verify = openssl('verify', '-attime', at, '-CAfile', ca.file('cacert.crt'), ca.file('x-cert.crt'));
  assert.equal(verify.status, 0, verify.stderr);
});

test('import-priv takes the key of another CA, and only the one of cacert.crt', async (t) => {
  const other = openFolder(t);
  const ca = openFolder(t);
  const key = path.join(ca.workDir, 'key.pem');
  execFileSync('mkdir', ['-p', ca.dir]);
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=Old CA', '-days', '30'];
  assert.equal(openssl(...request, '-keyout', key, '-out', ca.file('cacert.crt')).status, 0);
  const imported = await ca.run(['-c', 'import-priv', '-s', '41', '-f', key]);
  assert.equal(imported.code, 0, imported.stderr);
  assert.equal((await ca.run(['create', '-n', 'x'])).code, 0);
  assert.equal(new X509Certificate(ca.read('x-cert.crt')).serialNumber, '2B');
  assert.equal(openssl('verify', '-CAfile', ca.file('cacert.crt'), ca.file('x-cert.crt')).status, 0);
  await other.run(['init']);
  const mismatch = await other.run(['-c', 'import-priv', '-s', '1', '-f', key]);
  assert.equal(mismatch.code, 1);
  assert.match(mismatch.stderr, /is not the one of the certificate/);
});

test('[MUST] a serial number that this CA has not given is not revoked', async (t) => {
  const ca = openFolder(t);
  await ca.run(['init']);
  await ca.run(['create', '-n', 'x']);
  for (const serial of ['1', '3', '0', '-2', '2x', '02', '99999999999999999999']) {
    assert.equal((await ca.run(['revoke', `--serial=${serial}`])).code, 1, serial);
  }
  assert.doesNotMatch(openssl('crl', '-in', ca.file('cacrl.pem'), '-noout', '-text').stdout, /Serial Number/);
});

test('the password is read from a file, or typed at a terminal where it is not shown', (t) => {
  const ca = openFolder(t);
  const file = path.join(ca.workDir, 'password');
  writeFileSync(file, `${PASSWORD}\n`);
  const env = {
    PATH: process.env.PATH ?? '',
    KEYLIME_DIR: ca.workDir,
    KEYLIME_CA_CONFIG: path.join(ca.workDir, 'ca.conf'),
  };
  writeFileSync(env.KEYLIME_CA_CONFIG, '[ca]\n');
  const init = spawnSync(process.execPath, [program, 'init', '--password-file', file], { env, encoding: 'utf8' });
  assert.equal(init.status, 0, init.stderr);
  const typed = spawnSync('python3', ['-c', TYPE_PASSWORD, process.execPath, program, '-c', 'create', '-n', 'x'], {
    env: { ...env, TYPED: PASSWORD },
    encoding: 'utf8',
  });
  assert.equal(typed.status, 0, typed.stdout + typed.stderr);
  assert.match(typed.stdout, /Please enter the password to decrypt your keystore: /);
  assert.match(typed.stdout, /Created certificate for name x successfully/);
  assert.ok(!typed.stdout.includes(PASSWORD));
  const piped = spawnSync('setsid', ['-w', process.execPath, program, 'create', '-n', 'y'], {
    env,
    input: `${PASSWORD}\n`,
    encoding: 'utf8',
  });
  assert.equal(piped.status, 0, piped.stdout + piped.stderr);
});

/** Runs a program on a terminal of its own and answers its question, as expect does. */
const TYPE_PASSWORD = `import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
shown, answered = b'', False
while True:
    try: part = os.read(fd, 1024)
    except OSError: break
    if not part: break
    shown += part
    if not answered and b'keystore: ' in shown:
        os.write(fd, os.environ['TYPED'].encode() + b'\\r')
        answered = True
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))`;
