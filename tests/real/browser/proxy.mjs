// The proxy for all requests of a browser under test. It connects only to the configured
// hosts, all on loopback.

import { createServer, request as ask } from 'node:http';
import { connect } from 'node:net';

/**
 * `hosts`: for each host name, the loopback port in place of its port 443. `plain`: an
 * address on loopback, with its port, that may be asked by plain HTTP.
 */
export async function startProxy(hosts, plain) {
  const refused = [];
  const sockets = new Set();
  const server = createServer((request, response) => {
    const { host, pathname } = new URL(request.url);
    if (host !== plain) {
      refused.push(host);
      response.writeHead(403).end();
      return;
    }
    const [hostname, port] = host.split(':');
    const asked = ask({ hostname, port, path: pathname, method: request.method, headers: { host } }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    asked.on('error', () => response.destroy());
    response.on('close', () => asked.destroy());
    asked.end();
  });
  server.on('connect', (request, client, head) => {
    const [, name] = /^(.+):443$/.exec(request.url) ?? [];
    client.on('error', () => {});
    if (!(name in hosts)) {
      refused.push(request.url);
      client.end('HTTP/1.1 403 Forbidden\r\n\r\n');
      return;
    }
    const target = connect({ port: hosts[name], host: '127.0.0.1', allowHalfOpen: true }, () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      target.write(head);
      client.pipe(target).pipe(client);
    });
    for (const [one, other] of [[client, target], [target, client]]) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroySoon();
      });
    }
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: server.address().port,
    /** Hosts that the proxy refused. */
    refused,
    stop: () => new Promise((resolve) => {
      server.close(resolve);
      for (const socket of sockets) socket.destroy();
    }),
  };
}
