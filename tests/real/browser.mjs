// Real browsers: Chromium and Firefox log in to Prosody with Strophe.js and Converse.js,
// over wss through jabsocket, and show the chat, and jabsocket's status page. The pages have an origin other than the
// XMPP domain, and find the endpoint only by the domain's host-meta. Both browsers do the
// same. A page cannot see why the browser has refused a WebSocket; jabsocket's log has the
// reason.
//
//   node browser.mjs                     with target/release/jabsocket ($JABSOCKET for
//                                        another), /usr/bin/chromium ($CHROMIUM) and
//                                        /usr/bin/firefox-esr ($FIREFOX); pictures of
//                                        the pages go to target/screenshots
//   node browser.mjs --browser Firefox   one browser only (or Chromium)

import { converseTests } from './browser/converse.mjs';
import { BROWSERS, startBrowser } from './browser/launch.mjs';
import { servePages } from './browser/pages.mjs';
import { startProxy } from './browser/proxy.mjs';
import { strangerTests, stropheTests } from './browser/strophe.mjs';
import { statusTests } from './browser/status.mjs';
import { removePictures } from './browser/visitor.mjs';
import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { startProsody } from './servers/prosody.mjs';
import { World, befriend } from './tests.mjs';

const DOMAIN = 'chat.example';
const PAGE = 'page.example';
/** An origin that jabsocket does not serve. */
const STRANGER = 'stranger.example';
/** A jabsocket with a certificate that no browser trusts. */
const UNBELIEVED = 'unbelieved.example';

const runner = new Runner(90_000);
process.on('unhandledRejection', (error) => {
  runner.failed++;
  console.log(`FAIL nothing unhandled: ${error?.stack ?? error}`);
});

const argv = process.argv.slice(2);
const names = argv.includes('--browser') ? [argv[argv.indexOf('--browser') + 1]] : Object.keys(BROWSERS);
const authority = new Authority();
const pictures = [];
const stage = {
  domain: DOMAIN,
  page: `https://${PAGE}/`,
  stranger: `https://${STRANGER}/`,
  unbelieved: `https://${PAGE}/elsewhere/`,
  endpoint: `wss://${DOMAIN}/xmpp-websocket`,
  async visitor(name) {
    const visitor = await this.browser.visitor(name);
    this.visitors.push(visitor);
    return visitor;
  },
  async picture(visitor) {
    pictures.push(await visitor.picture(visitor.name));
  },
  quiet: (...some) => equal(some.flatMap(({ exceptions }) => exceptions), [], 'exceptions in the pages'),
  /** Waits for a line that jabsocket writes after this call. */
  newLines(child = this.jabsocket.child) {
    const from = child.lines.length;
    return (pattern) => child.waitForLine(pattern, { from, ms: 30_000 });
  },
};

function jabsocketFor(server, host, options) {
  const { certificate, key } = authority.issue(host, options);
  const settings = `tls_certificate: ${certificate}
tls_key: ${key}
origin: https://${PAGE}
host_meta: wss://${host}/xmpp-websocket
status_listen: 127.0.0.1:0
`;
  return startJabsocket([server], { settings }).then((jabsocket) => ({ ...jabsocket, certificate }));
}

const start = (name, body) => runner.test(`start ${name}`, body);
const started = await start('Prosody', async () => { stage.prosody = await startProsody({ domain: DOMAIN, authentication: 'internal_hashed' }); })
  && await start('jabsocket', async () => {
    stage.jabsocket = await jabsocketFor(stage.prosody, DOMAIN);
    const [, status] = await stage.jabsocket.child.waitForLine(/status at (http:.*\/)metrics/);
    stage.status = status;
    stage.impostor = await jabsocketFor(stage.prosody, UNBELIEVED, { own: true });
  })
  && await start('a web server', async () => {
    stage.certificate = authority.issue(PAGE, { names: [PAGE, STRANGER] });
    stage.pages = await servePages({
      certificate: stage.certificate,
      domain: DOMAIN,
      users: stage.prosody.users,
      elsewhere: `wss://${UNBELIEVED}/xmpp-websocket`,
    });
  })
  && await start('a proxy', async () => {
    const { jabsocket, impostor, pages } = stage;
    stage.proxy = await startProxy({ [DOMAIN]: jabsocket.port, [UNBELIEVED]: impostor.port, [PAGE]: pages.port, [STRANGER]: pages.port }, new URL(stage.status).host);
  });

/** All tests for the browser `name`. */
async function browserTests(name) {
  stage.name = name;
  stage.visitors = [];
  if (!await start(name, async () => {
    const certificates = [stage.jabsocket.certificate, stage.certificate.certificate];
    stage.browser = await startBrowser(name, { proxy: stage.proxy, authority, certificates });
    console.log(`     ${stage.browser.version}`);
  })) return;
  runner.onFailure = async () => {
    for (const visitor of stage.visitors.filter(({ page }) => !page.isClosed())) {
      await visitor.picture(`failed-${runner.failed}-${visitor.name}`).then((file) => pictures.push(file), () => {});
    }
    return stage.jabsocket.log(25);
  };
  await stropheTests(runner, stage);
  await strangerTests(runner, stage);
  await converseTests(runner, stage);
  await statusTests(runner, stage);
  runner.onFailure = () => stage.jabsocket.log(25);
  await runner.test(`${name}: the pages have asked nobody else, and for nothing that was not there`, () => {
    const urls = stage.visitors.flatMap(({ requests }) => requests).map((url) => new URL(url));
    const hosts = new Set(urls.filter(({ protocol }) => !['data:', 'blob:'].includes(protocol)).map(({ host }) => host));
    equal([...hosts].sort(), [DOMAIN, PAGE, STRANGER, UNBELIEVED, new URL(stage.status).host].sort(), 'hosts of all requests');
    equal(stage.pages.missing, [], 'files that were not there');
  });
  await runner.test(`${name} ends`, () => stage.browser.stop());
  const refused = [...new Set(stage.proxy.refused.splice(0))];
  console.log(`     the proxy refused ${name}: ${refused.join(', ') || 'nothing'}`);
}

if (started) {
  const { jabsocket, impostor } = stage;
  removePictures();
  await befriend(runner, new World(stage.prosody, stage.prosody.ownWebSocket));
  for (const name of names) await browserTests(name);
  await runner.test('jabsocket stops, and its log has no errors', async () => {
    await jabsocket.stop();
    await impostor.stop();
    // The warning about root does not matter here, and on a busy machine any turn may be slow.
    const harmless = /\]: warning: (serving as root|session .*: kept all others waiting for )/;
    const bad = jabsocket.child.lines.filter((line) => /\]: (warning|err|crit|alert|emerg): |panicked/.test(line) && !harmless.test(line));
    equal(bad, [], 'lines');
    const sessions = jabsocket.child.lines.filter((line) => / session .* dialect=rfc7395 /.test(line));
    check(sessions.length > 0, 'no session in the log');
    equal(sessions.filter((line) => !/ ended by client: /.test(line)), [], 'sessions that were not the client’s to end');
  });
}
for (const part of ['proxy', 'pages', 'prosody']) await stage[part]?.stop();

for (const picture of pictures) console.log(`screenshot: ${picture}`);
console.log(`browser: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
