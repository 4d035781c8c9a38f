// A certificate authority and its certificates, made with openssl(1).

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './process.mjs';

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export class Authority {
  #directory = temporaryDirectory('certificates');
  file = this.#path('ca.pem');

  constructor() {
    writeFileSync(this.#path('index.txt'), '');
    writeFileSync(this.#path('ca.cnf'), `[ca]
default_ca = tests
[tests]
database = ${this.#path('index.txt')}
new_certs_dir = ${this.#directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
`);
    this.#openssl('req', '-x509', ...EC, '-keyout', this.#path('ca.key'), '-out', this.file, '-subj', '/CN=tests', '-days', '90');
  }

  #path(name) {
    return join(this.#directory, name);
  }

  #openssl(...args) {
    execFileSync('openssl', args, { stdio: 'pipe' });
  }

  /**
   * A key and a certificate for `domain`. `names`: its DNS names, one or a list. `expired`:
   * it has expired long ago. `own`: it is self-signed.
   */
  issue(domain, { names = domain, expired = false, own = false } = {}) {
    const [key, request, certificate] = ['key', 'csr', 'pem'].map((end) => this.#path(`${domain}.${end}`));
    this.#openssl('req', '-new', ...EC, '-keyout', key, '-out', request, '-subj', `/CN=${domain}`,
      '-addext', `subjectAltName=${[names].flat().map((name) => `DNS:${name}`).join()}`, '-addext', 'basicConstraints=critical,CA:false');
    const signer = own ? ['-selfsign', '-keyfile', key] : ['-cert', this.file, '-keyfile', this.#path('ca.key')];
    // x509(1) in OpenSSL 3.0 does not accept dates, and in 3.5 no days before today.
    const time = expired ? ['-startdate', '20200101000000Z', '-enddate', '20200102000000Z'] : ['-days', '90'];
    this.#openssl('ca', '-batch', '-notext', '-config', this.#path('ca.cnf'), ...signer, ...time, '-in', request, '-out', certificate);
    return { key, certificate };
  }
}
