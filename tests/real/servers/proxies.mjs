// Starts nginx and HAProxy with the samples in conf/, without privileges and on loopback.
// Only names, ports and times are replaced.

import { chownSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, freePort, temporaryDirectory, waitForPort } from '../lib/process.mjs';

const conf = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'conf');
const NOBODY = 65534;

export const HOST = 'chat.example.com';

export const sample = (name) => readFileSync(join(conf, name), 'utf8');

/** Replaces the first text of each pair by the second. The first must exist. */
function substitute(text, pairs) {
  for (const [from, to] of pairs) {
    if (!text.includes(from)) throw new Error(`the sample has no '${from}'`);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** A directory with the certificate for a proxy that does not run as root. */
function directoryFor(name, { certificate, key }) {
  const directory = temporaryDirectory(name);
  copyFileSync(certificate, join(directory, 'certificate.pem'));
  copyFileSync(key, join(directory, 'key.pem'));
  writeFileSync(join(directory, 'both.pem'), readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'));
  if (process.getuid() === 0) {
    for (const file of ['', 'certificate.pem', 'key.pem', 'both.pem']) chownSync(join(directory, file), NOBODY, NOBODY);
  }
  return directory;
}

/** Starts a proxy, as nobody if possible, and waits until it listens on `port`. */
async function run(name, args, directory, port) {
  const user = process.getuid() === 0 ? ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'] : [];
  // Changing the user clears the death signal, so it is set again.
  const child = new Child(name, 'setpriv', [...user.map(String), '--pdeathsig', 'KILL', '--', name, ...args], {
    cwd: directory,
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  });
  try {
    await Promise.race([
      waitForPort(port),
      child.exited.then(() => { throw new Error(`${name} ended:\n${child.tail()}`); }),
    ]);
  } catch (error) {
    await child.stop('SIGKILL');
    throw error;
  }
  return { name, child, url: `wss://127.0.0.1:${port}/xmpp-websocket`, stop: () => child.stop() };
}

/**
 * `ports` are jabsocket's ports; `idle` replaces the sample's idle timeout. With `socket`,
 * a path, the sample's Unix socket is used instead.
 */
export async function startNginx(certificate, [port], { idle = '60s', socket } = {}) {
  const directory = directoryFor('nginx', certificate);
  const own = await freePort();
  const site = join(directory, 'jabsocket.conf');
  const swap = socket ? [
    ['    server 127.0.0.1:5000', '    #server 127.0.0.1:5000'],
    ['    #server unix:/run/jabsocket/ws.sock', `    server unix:${socket}`],
  ] : [];
  writeFileSync(site, substitute(sample('nginx.conf'), [
    ...swap,
    ['listen 443 ssl', `listen 127.0.0.1:${own} ssl`],
    ['server 127.0.0.1:5000', `server 127.0.0.1:${port}`],
    ['/etc/ssl/certs/chat.example.com.pem', join(directory, 'certificate.pem')],
    ['/etc/ssl/private/chat.example.com.key', join(directory, 'key.pem')],
    ['proxy_read_timeout 60s', `proxy_read_timeout ${idle}`],
    ['proxy_send_timeout 60s', `proxy_send_timeout ${idle}`],
  ]));
  const main = join(directory, 'main.conf');
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${directory}/${kind};`);
  writeFileSync(main, `daemon off;
worker_processes 1;
pid ${directory}/nginx.pid;
error_log stderr warn;
events {}
http {
  access_log off;
  ${places.join('\n  ')}
  include ${site};
}
`);
  return run('nginx', ['-e', 'stderr', '-p', directory, '-c', main], directory, own);
}

/**
 * The first two `ports` belong to the two instances of the sample. `clients` is the highest
 * number of connections.
 */
export async function startHaproxy(certificate, [one, two = one], { idle = '60s', proxyProtocol = false, socket, clients = 100 } = {}) {
  const directory = directoryFor('haproxy', certificate);
  const own = await freePort();
  const file = join(directory, 'haproxy.cfg');
  const local = socket ? [
    ['    server one', '    #server one'],
    ['    server two', '    #server two'],
    ['    #server local unix@/run/jabsocket/ws.sock', `    server local unix@${socket}`],
  ] : [];
  const swap = proxyProtocol ? [
    ['    http-request set-header X-Forwarded-For %[src]\n', ''],
    ['    http-request del-header Forwarded\n', ''],
    ['    server one', '    #-server one'],
    ['    server two', '    #-server two'],
    ['    #server one', '    server one'],
    ['    #server two', '    server two'],
  ] : [];
  writeFileSync(file, substitute(sample('haproxy.cfg'), [
    ...swap,
    ...local,
    ['    log /dev/log local0\n', '    log stdout format raw local0\n'],
    ['    user haproxy\n    group haproxy\n', ''],
    ['    maxconn 20000\n', `    maxconn ${clients}\n`],
    ['bind :443 ssl crt /etc/haproxy/chat.example.com.pem', `bind 127.0.0.1:${own} ssl crt ${directory}/both.pem`],
    ['192.0.2.11:5000', `127.0.0.1:${one}`],
    ['192.0.2.12:5000', `127.0.0.1:${two}`],
    ['timeout tunnel  60s', `timeout tunnel  ${idle}`],
  ]));
  return run('haproxy', ['-db', '-f', file], directory, own);
}
