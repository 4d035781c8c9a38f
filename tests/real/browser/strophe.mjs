// The demo's chat page in two browser windows, and connections that jabsocket or the
// browser must refuse.

import { check, equal } from '../lib/runner.mjs';
import { Chat } from './chat.mjs';

const LONG = 'Soft! what light through yonder window breaks? \u00e4\u20ac\u{1f339} '.repeat(2000).slice(0, 97_000);
export const BODIES = {
  Unicode: 'O Romeo, wherefore art thou Romeo? \u{1f339} \u{1f469}\u{1f3fd}\u200d\u{1f680} \u05e9\u05dc\u05d5\u05dd \u03a1\u03c9\u03bc\u03b1\u03af\u03bf\u03c2 \u00fc\u0308',
  'special characters': '<love> & "XML" \'tis &amp; ]]> <![CDATA[ &#38; </body>',
};

/** The log line of a session that its client has closed completely. */
export const CLOSED = /session .* domain=chat\.example .* ended by client: stream closed, server's stream ended/;

export async function stropheTests(runner, stage) {
  const test = (name, body) => runner.test(`${stage.name}: Strophe.js: ${name}`, body);
  let romeo;
  let juliet;

  const there = await test('two users log in over wss, whose address host-meta has', async () => {
    [romeo, juliet] = await Promise.all(['romeo', 'juliet'].map(async (user) => new Chat(await stage.visitor(`strophe-${user}`), user)));
    for (const chat of [romeo, juliet]) {
      await chat.open(stage.page);
      const state = await chat.state('online');
      check(state.startsWith(`online as ${chat.user}@${stage.domain}/`) && state.endsWith(` over ${stage.endpoint}`), state);
      // The page reports a new WebSocket before it reports that it is open.
      const { url, protocol } = await chat.visitor.socket('open');
      const { requests } = chat.visitor;
      const [asked, connected] = [`https://${stage.domain}/.well-known/host-meta.json`, stage.endpoint].map((url) => requests.indexOf(url));
      check(asked >= 0 && asked < connected, `requests: ${requests}`);
      equal([url, protocol], [stage.endpoint, 'xmpp'], 'the WebSocket');
    }
    await romeo.notes('Juliet is here');
    await juliet.notes('Romeo is here');
  });
  if (!there) return;

  for (const [name, body] of Object.entries({ ...BODIES, '97,000 characters': LONG })) {
    await test(`messages both ways are seen: ${name}`, async () => {
      if (body === LONG) await stage.picture(romeo.visitor);
      for (const [from, to] of [[romeo, juliet], [juliet, romeo]]) {
        await from.send(body);
        await to.receives(body);
      }
    });
  }

  await test('after a reload the user is back, and a message sent meanwhile arrives', async () => {
    const written = stage.newLines();
    await juliet.visitor.reload(stage.pages.hold('/settings.json', async () => {
      await romeo.notes('Juliet is gone');
      await romeo.send('Sent while you were away.');
    }));
    await written(/session .* domain=chat\.example .* ended by client: /);
    await juliet.state('online');
    await juliet.receives('Sent while you were away.');
    await juliet.send('Here I am again.');
    await romeo.receives('Here I am again.');
    await romeo.send('Good to see you.');
    await juliet.receives('Good to see you.');
    await stage.picture(juliet.visitor);
  });

  await test('logging out closes the stream and the WebSocket, with code 1000', async () => {
    for (const chat of [romeo, juliet]) {
      const written = stage.newLines();
      const { code, wasClean } = await chat.leave();
      equal([code, wasClean], [1000, true], 'the WebSocket’s close');
      await written(CLOSED);
    }
    stage.quiet(romeo.visitor, juliet.visitor);
  });
  for (const { visitor } of [romeo, juliet]) await visitor.close();
}

export async function strangerTests(runner, stage) {
  await runner.test(`${stage.name}: a page of another origin may ask host-meta, but gets no WebSocket`, async () => {
    const chat = new Chat(await stage.visitor('stranger'), 'romeo');
    const written = stage.newLines();
    await chat.open(stage.stranger);
    check(/no connection/.test(await chat.state('failed')), 'the page does not say so');
    const { url, code } = await chat.visitor.socket('close');
    equal([url, code], [stage.endpoint, 1006], 'the WebSocket’s close');
    await written(/session .* origin=https:\/\/stranger\.example .*refused: 403/);
    await chat.visitor.close();
  });

  await runner.test(`${stage.name} does not speak to a jabsocket whose certificate it does not believe`, async () => {
    const chat = new Chat(await stage.visitor('unbelieving'), 'romeo');
    const written = stage.newLines(stage.impostor.child);
    await chat.open(stage.unbelieved);
    check(/no connection/.test(await chat.state('failed')), 'the page does not say so');
    const { url, code } = await chat.visitor.socket('close');
    equal(url, 'wss://unbelieved.example/xmpp-websocket', 'the WebSocket');
    // RFC 6455, section 7.4.1, defines 1015 for this. Chromium does not use it.
    check([1006, 1015].includes(code), `close code ${code}`);
    await written(/session .* TLS handshake failed: .*(certificate|unknown ca)/);
    await chat.visitor.close();
  });
}
