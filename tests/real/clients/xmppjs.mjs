// xmpp.js (@xmpp/client).

import '../lib/globals.mjs';
import { client, xml } from '@xmpp/client';
import { Inbox, leaveAndWait, within, PATIENCE_MS } from '../lib/wait.mjs';
import { NS } from '../lib/xml.mjs';

export async function login(options) {
  const session = new XmppJsSession(options);
  await session.start();
  return session;
}

class XmppJsSession {
  kind = 'xmpp.js';
  messages = new Inbox();
  presences = new Inbox();
  nonzas = new Inbox();
  errors = [];

  constructor({ url, domain, user, password, mechanism, resource, streamManagement = false }) {
    const name = mechanism === 'SCRAM' ? 'SCRAM-SHA-1' : 'PLAIN';
    this.entity = client({
      service: url,
      domain,
      resource,
      username: user,
      credentials: async (authenticate, mechanisms) => {
        if (!mechanisms.includes(name)) throw new Error(`${name} is not offered, but ${mechanisms}`);
        await authenticate({ username: user, password }, name);
      },
    });
    // In tests without resumption, a lost session must not reconnect silently.
    if (!streamManagement) this.entity.reconnect.stop();
    this.sm = this.entity.streamManagement;
    this.resumed = new Inbox();
    this.sm.on('resumed', () => this.resumed.push('resumed'));
    this.entity.on('error', (error) => this.errors.push(error));
    this.entity.on('nonza', (element) => this.nonzas.push(element));
    this.entity.on('stanza', (stanza) => {
      const { from, type = 'available' } = stanza.attrs;
      if (stanza.is('message') && stanza.getChild('body')) {
        this.messages.push({ from, body: stanza.getChildText('body') });
      } else if (stanza.is('presence')) {
        this.presences.push({ from, type, show: stanza.getChildText('show') ?? undefined, status: stanza.getChildText('status') ?? undefined });
      }
    });
  }

  get ws() {
    return this.entity.socket?.socket;
  }

  async start() {
    try {
      this.jid = (await within(PATIENCE_MS, 'xmpp.js’s start()', this.entity.start())).toString();
    } catch (error) {
      this.entity.reconnect.stop();
      throw new Error(`${error.name}: ${error.message}${this.errors.length ? `; ${this.errors.join('; ')}` : ''}`);
    }
    // xmpp.js requests stream management by itself, with the resource (XEP-0386) or after
    // it. After it, xmpp.js is "online" before the answer; stanzas sent in between make
    // its count wrong.
    const offered = this.nonzas.take((element) => element.is('features', NS.stream)).some((features) => features.getChild('sm', NS.sm));
    if (offered && !this.sm.enabled) await this.nonzas.next((element) => element.is('enabled', NS.sm), '<enabled/>');
  }

  async roster() {
    const query = await this.entity.iqCaller.get(xml('query', { xmlns: NS.roster }));
    return query.getChildren('item').map(({ attrs }) => ({ jid: attrs.jid, subscription: attrs.subscription }));
  }

  sendMessage(to, body) {
    this.#send(xml('message', { to, type: 'chat', id: Math.random().toString(36).slice(2) }, xml('body', {}, body)));
  }

  presence({ type, to, show, status } = {}) {
    this.#send(xml('presence', { type, to }, show && xml('show', {}, show), status && xml('status', {}, status)));
  }

  #send(stanza) {
    this.entity.send(stanza).catch((error) => this.errors.push(error));
  }

  /** Sends a stanza through stream management, which counts it. */
  sendRaw(text) {
    this.#send(Object.assign(xml('message'), { toString: () => text }));
  }

  close() {
    this.entity.reconnect.stop();
    return leaveAndWait(this.ws, () => this.entity.stop());
  }

  /** xmpp.js reconnects by itself, a second after the connection is lost. */
  async resume() {
    await this.resumed.next(() => true, 'xmpp.js’s event resumed');
  }

  /** Resets the TCP connection and waits until xmpp.js has noticed. */
  async reset() {
    const noticed = new Promise((resolve) => this.entity.once('disconnect', resolve));
    this.ws._socket.resetAndDestroy();
    await within(PATIENCE_MS, 'xmpp.js’s disconnect', noticed);
  }
}
