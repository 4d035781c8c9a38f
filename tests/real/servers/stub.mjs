// A server that opens streams and does no more. It counts the connections which it has not
// yet given a stream header.

import { createServer } from 'node:net';

const STREAM = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='stub' version='1.0'><stream:features/>";

export async function startStub() {
  const stub = { open: 0, total: 0, pending: 0, highest: 0 };
  const server = createServer((gateway) => {
    stub.open++;
    stub.total++;
    stub.highest = Math.max(stub.highest, ++stub.pending);
    let heard = '';
    let waits = true;
    const answered = () => {
      if (waits) stub.pending--;
      waits = false;
    };
    gateway.on('data', (data) => {
      if (!waits) return;
      heard += data;
      if (!/<stream:stream[^>]*>/.test(heard)) return;
      answered();
      gateway.write(STREAM);
    });
    gateway.on('error', () => {});
    gateway.on('close', () => {
      answered();
      stub.open--;
    });
  });
  await new Promise((done) => { server.listen(0, '127.0.0.1', 1024, done); });
  stub.address = `127.0.0.1:${server.address().port}`;
  return stub;
}
