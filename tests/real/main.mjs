// Real clients, jabsocket, real servers.
//
//   node main.mjs                    through target/release/jabsocket ($JABSOCKET for another)
//   node main.mjs --own-websockets   without jabsocket, with the servers' own WebSockets:
//                                    shows whether a defect is in the tests
//   node main.mjs --server prosody   one server only (or ejabberd, jabberd2)

import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { Runner, check } from './lib/runner.mjs';
import { ejabberdTests, prosodyTests } from './secure.mjs';
import { startEjabberd } from './servers/ejabberd.mjs';
import { startJabberd2 } from './servers/jabberd2.mjs';
import { startProsody } from './servers/prosody.mjs';
import { CLIENTS, World, befriend, clientTests, crossTests, resumptionTests } from './tests.mjs';
import { plainTrials } from './trial.mjs';

const argv = process.argv.slice(2);
const own = argv.includes('--own-websockets');
const only = argv[argv.indexOf('--server') + 1];
const authority = new Authority();
const starters = {
  prosody: () => startProsody(),
  ejabberd: () => startEjabberd({ certificate: authority.issue('ejabberd.example') }),
  jabberd2: () => startJabberd2(),
};
const names = argv.includes('--server') ? [only] : Object.keys(starters).filter((name) => !(own && name === 'jabberd2'));

const runner = new Runner();
process.on('unhandledRejection', (error) => {
  runner.failed++;
  console.log(`FAIL nothing unhandled: ${error?.stack ?? error}`);
});

const servers = [];
for (const name of names) {
  await runner.test(`start ${name}`, async () => { servers.push(await starters[name]()); });
}
let jabsocket;
if (!own) await runner.test('start jabsocket', async () => { jabsocket = await startJabsocket(servers); });
runner.onFailure = () => (jabsocket ? jabsocket.log(25) : '');

if (own || jabsocket) {
  for (const server of servers) {
    const kinds = Object.keys(CLIENTS).filter((kind) => !(own && kind === 'draft'));
    const world = new World(server, own ? server.ownWebSocket : jabsocket.url, kinds);
    await befriend(runner, world);
    for (const kind of kinds) await clientTests(runner, world, kind);
    await crossTests(runner, world);
    if (server.streamManagement) await resumptionTests(runner, world, own ? {} : {
      log: () => {
        const from = jabsocket.child.lines.length;
        return (pattern) => jabsocket.child.waitForLine(pattern, { from, ms: 10_000 });
      },
      anotherJabsocket: () => startJabsocket([server]),
    });
  }
}
if (jabsocket) {
  await runner.test('jabsocket has not panicked', async () => {
    check(!jabsocket.child.lines.some((line) => /panicked/.test(line)), jabsocket.child.lines.find((line) => /panicked/.test(line)));
  });
  await runner.test('jabsocket exits with status 0 on SIGTERM', () => jabsocket.stop());
  runner.onFailure = undefined;
  await plainTrials(runner, servers.filter(({ name }) => name !== 'jabberd2'));
  for (const server of servers) {
    if (server.name === 'ejabberd') await ejabberdTests(runner, server, authority);
    if (server.name === 'Prosody') await prosodyTests(runner, authority);
  }
}
for (const server of servers) await server.stop();

console.log(`real parts: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
