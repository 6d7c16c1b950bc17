/** Options of existing files that nothing reads any more: reported as such, never as a slip. */
export const GONE: { readonly [section: string]: { readonly [option: string]: string } } = {
  verifier: {
    num_workers: 'use max_workers',
    dedicated_web_workers: 'it never had an effect',
  },
  revocations: {},
  registrar: {},
  tenant: {},
  ca: {},
  agent: {
    tls_dir: 'use server_key, server_cert and trusted_client_ca',
    measure_payload_pcr: 'payloads are not measured any more',
    exponential_backoff: 'use exponential_backoff_initial_delay and its neighbours',
    retry_interval: 'use exponential_backoff_initial_delay',
    max_retries: 'use exponential_backoff_max_retries',
    enable_authentication: 'it has no effect',
  },
};
