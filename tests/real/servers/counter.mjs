// A relay in front of a server that counts the connections which have not yet got the
// server's stream header.

import { connect, createServer } from 'node:net';

/** Forwards connections to `port` on loopback. */
export async function startCounter(port) {
  const counter = { open: 0, total: 0, pending: 0, highest: 0 };
  const relay = createServer({ allowHalfOpen: true, noDelay: true }, (gateway) => {
    const server = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    counter.open++;
    counter.total++;
    counter.highest = Math.max(counter.highest, ++counter.pending);
    let waits = true;
    const answered = () => {
      if (waits) counter.pending--;
      waits = false;
    };
    server.once('data', answered);
    for (const [from, to] of [[gateway, server], [server, gateway]]) {
      from.pipe(to);
      from.on('error', () => {});
      // What was received before the end still goes on.
      from.on('close', () => to.end());
    }
    gateway.on('close', () => {
      counter.open--;
      answered();
    });
  });
  await new Promise((done) => { relay.listen(0, '127.0.0.1', 1024, done); });
  counter.address = `127.0.0.1:${relay.address().port}`;
  return counter;
}
