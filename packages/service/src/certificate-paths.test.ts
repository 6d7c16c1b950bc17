import assert from 'node:assert/strict';
import test from 'node:test';
import { registrarCertificates, tenantCertificates, verifierCertificates } from './certificate-paths.ts';
import { loadRegistrarConfig, loadTenantConfig, loadVerifierConfig } from './config.ts';

const source = (env: Readonly<Record<string, string>>) => ({
  env: { KEYLIME_DIR: '/w', ...env },
  roots: { etc: '/nonexistent', usrEtc: '/nonexistent' },
});

test('generate is a folder of its own for the registrar, but its trusted CA is the verifier’s', () => {
  const verifier = verifierCertificates(
    loadVerifierConfig(source({ KEYLIME_VERIFIER_SERVER_KEY_PASSWORD: 'pw' })).config,
  );
  assert.deepEqual(verifier, {
    directory: '/w/cv_ca',
    generate: true,
    server: { key: '/w/cv_ca/server-private.pem', certificate: '/w/cv_ca/server-cert.crt', password: 'pw' },
    client: { key: '/w/cv_ca/client-private.pem', certificate: '/w/cv_ca/client-cert.crt', password: '' },
    trustedClientCa: ['/w/cv_ca/cacert.crt'],
    trustedServerCa: ['/w/cv_ca/cacert.crt'],
  });
  const registrar = registrarCertificates(
    loadRegistrarConfig(source({ KEYLIME_REGISTRAR_TLS_DIR: 'generate' })).config,
  );
  assert.equal(registrar.server.key, '/w/reg_ca/server-private.pem');
  assert.deepEqual(registrar.trustedClientCa, ['/w/cv_ca/cacert.crt']);
});

test('default is the folder of the verifier for every program', () => {
  assert.equal(registrarCertificates(loadRegistrarConfig(source({})).config).directory, '/w/cv_ca');
  assert.equal(tenantCertificates(loadTenantConfig(source({})).config).client.certificate, '/w/cv_ca/client-cert.crt');
});

test('a relative tls_dir is below the work directory, relative files are below tls_dir', () => {
  const env = {
    KEYLIME_TENANT_TLS_DIR: 'certs',
    KEYLIME_TENANT_CLIENT_KEY: 'me.pem',
    KEYLIME_TENANT_CLIENT_CERT: '/else/me.crt',
    KEYLIME_TENANT_TRUSTED_SERVER_CA: "['a.crt', '/b.crt', 'default']",
  };
  assert.deepEqual(tenantCertificates(loadTenantConfig(source(env)).config), {
    directory: '/w/certs',
    generate: false,
    client: { key: '/w/certs/me.pem', certificate: '/else/me.crt', password: '' },
    trustedClientCa: [],
    trustedServerCa: ['/w/certs/a.crt', '/b.crt', '/w/cv_ca/cacert.crt'],
  });
});
