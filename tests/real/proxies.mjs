// jabsocket behind nginx and HAProxy with the samples in conf/: TLS at the proxy, whole
// sessions, the browser's real address, Unix sockets, idle connections, two instances.
//
//   node proxies.mjs     with target/release/jabsocket ($JABSOCKET for another)

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { login } from './clients/raw.mjs';
import { startJabsocket } from './daemon.mjs';
import { Authority } from './lib/certificates.mjs';
import { temporaryDirectory } from './lib/process.mjs';
import { Runner, check, equal } from './lib/runner.mjs';
import { within } from './lib/wait.mjs';
import { startProsody } from './servers/prosody.mjs';
import { HOST, sample, startHaproxy, startNginx } from './servers/proxies.mjs';

// The address of browsers. Proxies connect from 127.0.0.1.
const BROWSER = '127.0.0.9';
const LIAR = '198.51.100.66';
const IDLE_S = 3;

const runner = new Runner();
process.on('unhandledRejection', (error) => {
  runner.failed++;
  console.log(`FAIL nothing unhandled: ${error?.stack ?? error}`);
});

// At a path that a proxy running as nobody can reach.
const directory = temporaryDirectory('socket');
chmodSync(directory, 0o711);
const socket = join(directory, 'ws.sock');

const authority = new Authority();
const certificate = authority.issue(HOST);
const ca = readFileSync(authority.file);
const portOf = (jabsocket) => new URL(jabsocket.url).port;

function options(prosody, proxy, user, headers = {}) {
  return {
    url: proxy.url,
    domain: prosody.domain,
    user,
    password: prosody.users[user],
    mechanism: 'SCRAM',
    resource: `${user}-${proxy.name}`,
    localAddress: BROWSER,
    // The certificate must be valid for the name that a browser would use.
    webSocket: { ca, servername: HOST, headers: { Host: HOST, ...headers } },
  };
}

/** Sends a message in each direction between two sessions. */
async function talk(romeo, juliet) {
  for (const [from, to] of [[romeo, juliet], [juliet, romeo]]) {
    const body = `${from.jid} \u{1f339} ${Math.random()}`;
    from.sendMessage(to.jid, body);
    equal((await to.messages.next((message) => message.from === from.jid, 'the message')).body, body, 'the body');
  }
}

/** A proxy's response to a request without WebSocket. */
function get(proxy, path, headers) {
  const { port } = new URL(proxy.url);
  return within(10_000, path, new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, ca, servername: HOST, headers: { Host: HOST, ...headers } }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text) => { body += text; });
      response.on('end', () => resolve({ status: response.statusCode, origin: response.headers['access-control-allow-origin'], body }));
    }).on('error', reject).end();
  }));
}

async function through(kind, start) {
  let proxy;
  if (!await runner.test(`${kind}: starts with the sample`, async () => { proxy = await start(); })) return;
  try {
    await runner.test(`${kind}: messages pass both ways, and the log has the browser’s address`, async () => {
      const from = jabsocket.child.lines.length;
      const sessions = [];
      for (const user of ['romeo', 'juliet']) {
        // The address that the browser claims is ignored.
        sessions.push(await login(options(prosody, proxy, user, { 'X-Forwarded-For': LIAR, Forwarded: `for=${LIAR}` })));
      }
      await talk(...sessions);
      for (const session of sessions) equal((await session.close()).code, 1000, 'the close code');
      await jabsocket.child.waitForLine(new RegExp(` session \\d+ ${BROWSER.replaceAll('.', '\\.')}:\\d+ .*dialect=rfc7395`), { from, ms: 10_000 });
      check(!jabsocket.child.lines.slice(from).some((line) => line.includes(LIAR)), `the log has ${LIAR}`);
    });
    await runner.test(`${kind}: host-meta and the page pass, whatever Upgrade says`, async () => {
      const page = /^XMPP over WebSocket/;
      for (const [path, pattern] of [
        ['/.well-known/host-meta', /<Link rel='urn:xmpp:alt-connections:websocket' href='wss:\/\/chat\.example\.com\/xmpp-websocket'\/>/],
        ['/.well-known/host-meta.json', /"href":"wss:\/\/chat\.example\.com\/xmpp-websocket"/],
        ['/xmpp-websocket', page],
      ]) {
        for (const headers of [{}, { Upgrade: 'h2c', Connection: 'Upgrade' }]) {
          const { status, origin, body } = await get(proxy, path, headers);
          equal([status, origin], [200, '*'], `the status and whose scripts may read ${path}`);
          check(pattern.test(body), body);
        }
      }
    });
    await runner.test(`${kind}: a large message passes`, async () => {
      const romeo = await login(options(prosody, proxy, 'romeo'));
      const juliet = await login(options(prosody, proxy, 'juliet'));
      const body = 'x'.repeat(200_000);
      romeo.sendMessage(juliet.jid, body);
      equal((await juliet.messages.next(() => true, 'the message')).body.length, body.length, 'its length');
      for (const session of [romeo, juliet]) await session.close();
    });
  } finally {
    await proxy.stop();
  }
}

/** Whether an idle session survives twice the proxy's idle timeout. */
async function survives(start, jabsocket) {
  const proxy = await start(certificate, [portOf(jabsocket)], { idle: `${IDLE_S}s` });
  try {
    const session = await login({ ...options(prosody, proxy, 'romeo'), resource: `port-${portOf(jabsocket)}` });
    const wait = new Promise((resolve) => setTimeout(resolve, 2.3 * IDLE_S * 1000, 'alive'));
    if (await Promise.race([wait, session.closed]) !== 'alive') return false;
    session.sendMessage(session.jid, 'still here');
    await session.messages.next((message) => message.body === 'still here', 'the message after the silence');
    await session.close();
    return true;
  } finally {
    await proxy.stop();
  }
}

async function idleTests() {
  const [pinging, silent] = await Promise.all([1, 0].map((interval) => startJabsocket([prosody], {
    settings: `trusted_proxies: 127.0.0.1\nping_interval: ${interval}\n`,
  })));
  for (const [kind, start] of [['nginx', startNginx], ['HAProxy', startHaproxy]]) {
    await runner.test(`${kind}: pings carry an idle session over its idle time of ${IDLE_S} s`, async () => {
      const [pinged, unpinged] = await Promise.all([survives(start, pinging), survives(start, silent)]);
      check(pinged, 'the session was cut');
      // Otherwise the test above would prove nothing.
      check(!unpinged, 'without pings it was not cut either');
    });
  }
  await runner.test('the idle timeouts in the samples are at least two ping intervals', async () => {
    for (const [file, pattern] of [['nginx.conf', /proxy_read_timeout (\d+)s/], ['haproxy.cfg', /timeout tunnel +(\d+)s/]]) {
      check(Number(pattern.exec(sample(file))[1]) >= 60, `${file}: below 60 s`);
    }
  });
  await Promise.all([pinging.stop(), silent.stop()]);
}

async function twoInstances() {
  const settings = 'trusted_proxies: 127.0.0.1\n';
  const [one, two] = [await startJabsocket([prosody], { settings }), await startJabsocket([prosody], { settings })];
  let proxy;
  const sessions = [];
  const join = async (user, resource) => {
    const session = await login({ ...options(prosody, proxy, user), resource });
    sessions.push(session);
    return session;
  };
  try {
    await runner.test('two instances behind HAProxy: both get sessions, which reach each other', async () => {
      proxy = await startHaproxy(certificate, [portOf(one), portOf(two)]);
      await talk(await join('romeo', 'first'), await join('juliet', 'second'));
      for (const [name, instance] of [['one', one], ['two', two]]) {
        check(instance.child.lines.some((line) => line.includes(`${BROWSER}:`) && line.includes(prosody.address)), `no session on instance ${name}`);
      }
    });
    await runner.test('one instance stops: its session is closed, and new sessions work at once', async () => {
      const stopped = one.stop();
      const gone = await within(10_000, 'a close', Promise.race(sessions.map((session) => session.closed)));
      equal(gone.code, 1001, 'the close code');
      for (let count = 0; count < 4; count++) await join('romeo', `after-${count}`);
      await stopped;
      for (let count = 4; count < 8; count++) await join('juliet', `after-${count}`);
      await talk(sessions.at(-8), sessions.at(-1));
    });
    await runner.test('HAProxy’s health check reports the stopped instance and not the other', async () => {
      await proxy.child.waitForLine(/jabsocket\/one is DOWN/, { ms: 15_000 });
      check(!proxy.child.lines.some((line) => /jabsocket\/two is DOWN/.test(line)), proxy.child.tail());
    });
  } finally {
    for (const session of sessions) session.ws.terminate();
    await proxy?.stop();
    await two.stop();
  }
}

let prosody;
let jabsocket;
const started = await runner.test('start Prosody and jabsocket', async () => {
  prosody = await startProsody();
  const listen = `listen: [127.0.0.1, unix:${socket}]\n`;
  jabsocket = await startJabsocket([prosody], { settings: `${listen}trusted_proxies: [127.0.0.1, 'unix:']\nhost: ${HOST}\nhost_meta: wss://${HOST}/xmpp-websocket\n` });
});
runner.onFailure = () => jabsocket?.log(25) ?? '';
if (started) {
  await runner.test('trusted_proxies from the samples causes no warning', async () => {
    for (const file of ['nginx.conf', 'haproxy.cfg']) {
      const lines = [...sample(file).matchAll(/^ *# +(trusted_proxies: .*)$/gm)];
      equal(lines.length, 2, `the lines in ${file}, by TCP and by unix socket`);
      for (const [, line] of lines) {
        const config = join(temporaryDirectory('check'), 'jabsocket.conf');
        writeFileSync(config, `${line}\n`);
        const { status, stdout, stderr } = spawnSync(jabsocket.binary, ['--check-config', '-c', config], { encoding: 'utf8' });
        check(status === 0 && /the configuration is good/.test(stdout) && !stderr.includes('trusted_proxies'), `${stdout}${stderr}`);
      }
    }
  });
  await through('nginx', () => startNginx(certificate, [portOf(jabsocket)]));
  await through('HAProxy, X-Forwarded-For', () => startHaproxy(certificate, [portOf(jabsocket)]));
  await through('nginx by a unix socket', () => startNginx(certificate, [portOf(jabsocket)], { socket }));
  await through('HAProxy by a unix socket', () => startHaproxy(certificate, [portOf(jabsocket)], { socket }));
  await through('HAProxy, PROXY v2', () => startHaproxy(certificate, [portOf(jabsocket)], { proxyProtocol: true }));
  await runner.test('jabsocket has not panicked', async () => {
    const line = jabsocket.child.lines.find((text) => /panicked/.test(text));
    check(!line, line);
  });
  await runner.test('jabsocket exits with status 0 on SIGTERM and removes its socket', async () => {
    await jabsocket.stop();
    check(!existsSync(socket), `${socket} is left behind`);
  });
  runner.onFailure = undefined;
  await idleTests();
  await twoInstances();
}
await prosody?.stop();

console.log(`proxies: ${runner.passed} ok, ${runner.failed} not`);
process.exit(runner.failed === 0 && runner.passed > 0 ? 0 : 1);
