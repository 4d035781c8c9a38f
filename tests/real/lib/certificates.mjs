// A certificate authority of our own and what it signs, made by openssl(1).

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { temporaryDirectory } from './process.mjs';

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export class Authority {
  #directory = temporaryDirectory('certificates');
  file = this.#path('ca.pem');

  constructor() {
    this.#openssl('req', '-x509', ...EC, '-keyout', this.#path('ca.key'), '-out', this.file, '-subj', '/CN=tests', '-days', '2');
  }

  #path(name) {
    return join(this.#directory, name);
  }

  #openssl(...args) {
    execFileSync('openssl', args, { stdio: 'pipe' });
  }

  /**
   * A key and a certificate for `domain`. `names` are the DNS names in it, one or
   * a list, `days` how long it holds (below 0: no longer), `own` has it signed by itself.
   */
  issue(domain, { names = domain, days = 2, own = false } = {}) {
    const [key, request, certificate] = ['key', 'csr', 'pem'].map((end) => this.#path(`${domain}.${end}`));
    this.#openssl('req', '-new', ...EC, '-keyout', key, '-out', request, '-subj', `/CN=${domain}`,
      '-addext', `subjectAltName=${[names].flat().map((name) => `DNS:${name}`).join()}`, '-addext', 'basicConstraints=critical,CA:false');
    const signer = own ? ['-key', key] : ['-CA', this.file, '-CAkey', this.#path('ca.key'), '-CAcreateserial'];
    this.#openssl('x509', '-req', '-in', request, '-out', certificate, ...signer, '-days', String(days), '-copy_extensions', 'copy');
    return { key, certificate };
  }
}
