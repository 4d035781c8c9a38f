// A relay in front of a server that counts the connections which have not yet got the
// server's stream header. It has a thread of its own, so that busy clients in this process
// do not hold it up.

import { connect, createServer } from 'node:net';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

const [OPEN, PENDING, HIGHEST] = [0, 1, 2];

/** Forwards connections to `port` on loopback. */
export async function startCounter(port) {
  const counts = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(new URL(import.meta.url), { workerData: { port, counts } });
  const address = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return {
    address,
    /** Open connections. */
    get open() { return Atomics.load(counts, OPEN); },
    /** The highest number of connections without a stream header. */
    get highest() { return Atomics.load(counts, HIGHEST); },
    stop: () => worker.terminate(),
  };
}

function relay(gateway, { port, counts }) {
  const server = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  Atomics.add(counts, OPEN, 1);
  const pending = Atomics.add(counts, PENDING, 1) + 1;
  if (pending > Atomics.load(counts, HIGHEST)) Atomics.store(counts, HIGHEST, pending);
  let waits = true;
  const answered = () => {
    if (waits) Atomics.sub(counts, PENDING, 1);
    waits = false;
  };
  server.once('data', answered);
  for (const [from, to] of [[gateway, server], [server, gateway]]) {
    from.pipe(to);
    from.on('error', () => {});
    // What was received before the end still goes on.
    from.on('close', () => to.end());
  }
  gateway.on('end', answered);
  gateway.on('close', () => {
    answered();
    Atomics.sub(counts, OPEN, 1);
  });
}

if (!isMainThread) {
  const listener = createServer({ allowHalfOpen: true, noDelay: true }, (gateway) => relay(gateway, workerData));
  listener.listen(0, '127.0.0.1', 1024, () => parentPort.postMessage(`127.0.0.1:${listener.address().port}`));
}
