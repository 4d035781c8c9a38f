// Converse.js from its package in one window, and the demo's chat page in another.

import { check, equal } from '../lib/runner.mjs';
import { within } from '../lib/wait.mjs';
import { Chat } from './chat.mjs';
import { PATIENCE_MS } from './visitor.mjs';
import { BODIES, CLOSED } from './strophe.mjs';

export async function converseTests(runner, stage) {
  const test = (name, body) => runner.test(`${stage.name}: Converse.js: ${name}`, body);
  const jid = (user) => `${user}@${stage.domain}`;
  let romeo;
  let juliet;

  const there = await test('a user logs in over wss, whose address host-meta has', async () => {
    romeo = new Converse(await stage.visitor('converse-romeo'));
    juliet = new Chat(await stage.visitor('converse-juliet'), 'juliet');
    await juliet.open(stage.page);
    await juliet.state('online');
    await romeo.open(`${stage.page}converse/`);
    await romeo.login(jid('romeo'), stage.prosody.users.romeo);
    // The page reports a new WebSocket before it reports that it is open.
    const { url, protocol } = await romeo.visitor.socket('open');
    const { requests } = romeo.visitor;
    const [asked, connected] = [`https://${stage.domain}/.well-known/host-meta`, stage.endpoint].map((url) => requests.indexOf(url));
    check(asked >= 0 && asked < connected, `requests: ${requests}`);
    equal([url, protocol], [stage.endpoint, 'xmpp'], 'the WebSocket');
    await juliet.notes('Romeo is here');
  });
  if (!there) return;

  await test('a chat opens', () => romeo.chatWith(jid('juliet')));
  const said = [];
  for (const [name, body] of Object.entries(BODIES)) {
    await test(`messages both ways are seen: ${name}`, async () => {
      await romeo.send(jid('romeo'), body);
      await juliet.receives(body);
      await juliet.send(body);
      await romeo.shows(jid('juliet'), body);
      said.push([jid('romeo'), body], [jid('juliet'), body]);
    });
  }

  await test('after a reload the session is resumed, nothing is lost, and what was said is still there', async () => {
    for (const [from, body] of said) await romeo.keeps(from, body);
    const written = stage.newLines();
    romeo.visitor.received.take();
    await romeo.visitor.reload(stage.pages.hold('/converse/converse.min.js', async () => {
      await written(/session .* domain=chat\.example .* ended by client: .*, server's stream cut/);
      await juliet.send('Sent while you were away.');
    }));
    await romeo.chatWith(jid('juliet'));
    for (const [from, body] of [...said, [jid('juliet'), 'Sent while you were away.']]) await romeo.shows(from, body);
    await romeo.visitor.received.next((text) => text.startsWith('<resumed '), '<resumed/>');
    equal(romeo.visitor.requests.filter((url) => url === stage.endpoint).length, 2, 'number of WebSockets');
  });
  await test('and goes on both ways', async () => {
    await romeo.send(jid('romeo'), 'Here I am again.');
    await juliet.receives('Here I am again.');
    await juliet.send('Good to see you.');
    await romeo.shows(jid('juliet'), 'Good to see you.');
    for (const { visitor } of [romeo, juliet]) await stage.picture(visitor);
  });
  // After logging out Converse throws an exception.
  await test('no exception in the pages', () => stage.quiet(romeo.visitor, juliet.visitor));

  await test('logging out closes the stream and the WebSocket, with code 1000', async () => {
    for (const user of [romeo, juliet]) {
      const written = stage.newLines();
      const { code, wasClean } = await user.leave();
      equal([code, wasClean], [1000, true], 'the WebSocket’s close');
      await written(CLOSED);
    }
  });
  for (const { visitor } of [romeo, juliet]) await visitor.close();
}

class Converse {
  constructor(visitor) {
    this.visitor = visitor;
    this.page = visitor.page;
  }

  open(address) {
    return this.page.goto(address);
  }

  async login(jid, password) {
    await this.visitor.fill('#converse-login-jid', jid);
    await this.visitor.fill('#converse-login-password', password);
    await this.visitor.click('#converse-login button[type=submit]');
    await this.visitor.finds('#converse-roster .open-chat');
  }

  async chatWith(jid) {
    await this.visitor.click(`#converse-roster .open-chat[data-jid="${jid}"]`);
    await this.visitor.finds('.chat-textarea');
  }

  async send(from, text) {
    await this.visitor.fill('.chat-textarea', text);
    const area = await this.visitor.finds('.chat-textarea');
    await area.press('Enter');
    await this.shows(from, text);
  }

  /** Waits for a message from the bare address `from`, which may be the own address. */
  shows(from, text) {
    return this.visitor.sees(`.chat-msg[data-from^="${from}"] .chat-msg__text`, text);
  }

  /**
   * Resolves when a message is in Converse's IndexedDB, and in the list of the chat's
   * messages there. Converse shows and acknowledges it a little earlier; a reload in
   * between would lose it.
   */
  keeps(from, text) {
    return within(PATIENCE_MS, `${text.slice(0, 80)} in Converse’s IndexedDB`, this.page.evaluate(async ([sender, wanted]) => {
      const result = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
      });
      const database = await result(indexedDB.open('converse-persistent'));
      const isIn = async (name) => {
        const store = database.transaction(name).objectStore(name);
        const [keys, values] = await Promise.all([result(store.getAllKeys()), result(store.getAll())]);
        const at = values.findIndex((value) => value?.body === wanted && value.from?.startsWith(sender));
        return at >= 0 && values.some((value) => Array.isArray(value) && value.includes(keys[at]));
      };
      while (!(await Promise.all([...database.objectStoreNames].map(isIn))).includes(true)) {
        await new Promise((resolve) => { requestAnimationFrame(resolve); });
      }
      database.close();
    }, [from, text]));
  }

  async leave() {
    await this.visitor.click('a.show-profile');
    await this.visitor.click('::-p-xpath(//button[contains(., "Log out")])');
    await this.visitor.click('form.confirm button[type=submit]');
    const closed = await this.visitor.socket('close');
    await this.visitor.finds('#converse-login');
    return closed;
  }
}
