// An XMPP client on a WebSocket without a library, which sees every message unchanged.
// raw.mjs and draft.mjs implement its two dialects.

import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { WebSocket } from 'ws';
import { Inbox, closeOf, leaveAndWait, within, PATIENCE_MS } from '../lib/wait.mjs';
import { NS, child, children, escape, is, textOf } from '../lib/xml.mjs';

const base64 = (text) => Buffer.from(text).toString('base64');
const hmac = (key, data) => createHmac('sha1', key).update(data).digest();

export class WireClient {
  constructor(url, options) {
    this.options = options;
    this.elements = new Inbox();
    this.messages = new Inbox();
    this.presences = new Inbox();
    this.count = 0;
    // XEP-0198: stanzas that the client has handled, and sent since <enable/>.
    this.handled = 0;
    this.sent = [];
    this.counting = { in: false, out: false };
    this.ws = new WebSocket(url, 'xmpp', { localAddress: options.localAddress, ...options.webSocket });
    this.closed = closeOf(this.ws);
    this.ws.on('message', (data, binary) => this.#message(data, binary));
    this.opened = new Promise((resolve, reject) => {
      this.ws.once('open', resolve);
      this.ws.on('error', (error) => {
        this.#fail(error);
        reject(error);
      });
    });
    this.ws.on('close', (code) => this.#fail(new Error(`the WebSocket of ${options.resource} closed with ${code}`)));
  }

  #fail(error) {
    for (const inbox of [this.elements, this.messages, this.presences]) inbox.fail(error);
  }

  #message(data, binary) {
    try {
      if (binary) throw new Error('a binary message came');
      this.#element(this.dialect.read(data.toString('utf8'), this));
    } catch (error) {
      this.#fail(error);
    }
  }

  #element(element) {
    const stanza = element.namespaceURI === NS.client && ['message', 'presence', 'iq'].includes(element.localName);
    if (stanza && this.counting.in) this.handled++;
    if (is(element, 'message', NS.client) && child(element, 'body')) {
      this.messages.push({ from: element.getAttribute('from'), body: textOf(element, 'body'), element });
    } else if (is(element, 'presence', NS.client)) {
      this.presences.push({
        from: element.getAttribute('from'),
        type: element.getAttribute('type') || 'available',
        show: textOf(element, 'show'),
        status: textOf(element, 'status'),
      });
    } else if (is(element, 'iq', NS.client) && ['get', 'set'].includes(element.getAttribute('type'))) {
      this.#answer(element);
    } else if (is(element, 'r', NS.sm)) {
      this.send(`<a xmlns='${NS.sm}' h='${this.handled}'/>`);
    } else {
      this.elements.push(element);
    }
  }

  /** A request from the server: ping or roster push. */
  #answer(element) {
    const id = escape(element.getAttribute('id') ?? '');
    const from = element.getAttribute('from');
    const to = from ? ` to='${escape(from)}'` : '';
    const known = children(element).some((node) => node.namespaceURI === NS.roster || is(node, 'ping'));
    this.sendStanza(known
      ? `<iq xmlns='${NS.client}' type='result' id='${id}'${to}/>`
      : `<iq xmlns='${NS.client}' type='error' id='${id}'${to}><error type='cancel'>`
        + "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
  }

  send(text) {
    this.ws.send(text);
  }

  sendStanza(text) {
    if (this.counting.out) this.sent.push(text);
    this.send(text);
  }

  next(name, ns) {
    return this.elements.next((element) => is(element, name, ns), `<${name} xmlns='${ns}'>`);
  }

  /** Waits for the first of several elements. */
  either(...names) {
    return this.elements.next((element) => names.includes(element.localName), `<${names.join('> or <')}>`);
  }

  async openStream() {
    this.send(this.dialect.header(this.options));
    this.header = await this.dialect.nextHeader(this);
    if (this.header.getAttribute('from') !== this.options.domain) throw new Error(`header from ${this.header.getAttribute('from')}`);
    return this.next('features', NS.stream);
  }

  async login() {
    const { user, password, mechanism } = this.options;
    await within(PATIENCE_MS, 'the opening handshake', this.opened);
    if (this.ws.protocol !== 'xmpp') throw new Error(`sub-protocol ${this.ws.protocol}`);
    const features = await this.openStream();
    for (const [name, ns] of [['starttls', 'urn:ietf:params:xml:ns:xmpp-tls'], ['compression', 'http://jabber.org/features/compress']]) {
      if (child(features, name, ns)) throw new Error(`<${name}/> is offered`);
    }
    const offered = children(child(features, 'mechanisms', NS.sasl)).map((node) => node.textContent);
    this.mechanisms = offered;
    const name = mechanism === 'SCRAM' ? 'SCRAM-SHA-1' : 'PLAIN';
    if (!offered.includes(name)) throw new Error(`${name} is not offered, but ${offered}`);
    const first = this.header.getAttribute('id');
    if (name === 'PLAIN') await this.#plain(user, password);
    else await this.#scram(user, password);
    this.features = await this.openStream();
    if (this.header.getAttribute('id') === first) throw new Error('the restarted stream has the same id');
    return this;
  }

  async #plain(user, password) {
    this.send(`<auth xmlns='${NS.sasl}' mechanism='PLAIN'>${base64(`\0${user}\0${password}`)}</auth>`);
    this.#success(await this.either('success', 'failure'));
  }

  async #scram(user, password) {
    const nonce = randomBytes(18).toString('base64');
    const bare = `n=${user},r=${nonce}`;
    this.send(`<auth xmlns='${NS.sasl}' mechanism='SCRAM-SHA-1'>${base64(`n,,${bare}`)}</auth>`);
    const challenge = await this.either('challenge', 'failure');
    if (!is(challenge, 'challenge')) this.#success(challenge);
    const serverFirst = Buffer.from(challenge.textContent, 'base64').toString();
    const fields = Object.fromEntries(serverFirst.split(',').map((field) => [field[0], field.slice(2)]));
    const salted = pbkdf2Sync(password, Buffer.from(fields.s, 'base64'), Number(fields.i), 20, 'sha1');
    const withoutProof = `c=biws,r=${fields.r}`;
    const signed = `${bare},${serverFirst},${withoutProof}`;
    const clientKey = hmac(salted, 'Client Key');
    const signature = hmac(createHash('sha1').update(clientKey).digest(), signed);
    const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i])).toString('base64');
    this.send(`<response xmlns='${NS.sasl}'>${base64(`${withoutProof},p=${proof}`)}</response>`);
    const success = this.#success(await this.either('success', 'failure'));
    const expected = `v=${hmac(hmac(salted, 'Server Key'), signed).toString('base64')}`;
    if (Buffer.from(success.textContent, 'base64').toString() !== expected) throw new Error('the server’s SCRAM signature is wrong');
  }

  #success(element) {
    if (!is(element, 'success', NS.sasl)) throw new Error(`login failed: ${element}`);
    return element;
  }

  async iq(type, payload, to) {
    const id = `wire-${++this.count}`;
    this.sendStanza(`<iq xmlns='${NS.client}' type='${type}' id='${id}'${to ? ` to='${to}'` : ''}>${payload}</iq>`);
    const answer = await this.elements.next(
      (element) => is(element, 'iq', NS.client) && element.getAttribute('id') === id, `the answer to ${payload}`);
    if (answer.getAttribute('type') !== 'result') throw new Error(`${payload} failed: ${answer}`);
    return answer;
  }

  async bind(resource) {
    const answer = await this.iq('set', `<bind xmlns='${NS.bind}'><resource>${resource}</resource></bind>`);
    this.jid = textOf(child(answer, 'bind', NS.bind), 'jid');
    if (child(this.features, 'session', NS.session)) await this.iq('set', `<session xmlns='${NS.session}'/>`);
    return this;
  }

  async roster() {
    const answer = await this.iq('get', `<query xmlns='${NS.roster}'/>`);
    return children(child(answer, 'query', NS.roster))
      .map((item) => ({ jid: item.getAttribute('jid'), subscription: item.getAttribute('subscription') }));
  }

  sendMessage(to, body) {
    this.sendStanza(`<message xmlns='${NS.client}' type='chat' id='wire-${++this.count}' to='${to}'><body>${escape(body)}</body></message>`);
  }

  presence({ type, to, show, status } = {}) {
    const attributes = Object.entries({ type, to }).filter(([, value]) => value).map(([key, value]) => ` ${key}='${value}'`).join('');
    const inner = (show ? `<show>${show}</show>` : '') + (status ? `<status>${escape(status)}</status>` : '');
    this.sendStanza(`<presence xmlns='${NS.client}'${attributes}>${inner}</presence>`);
  }

  sendRaw(text) {
    this.sendStanza(text);
  }

  /** Closes the stream, waits for the answer, then does the WebSocket's closing handshake. */
  close() {
    return leaveAndWait(this.ws, async () => {
      this.send(this.dialect.footer);
      await this.dialect.nextFooter(this);
      this.ws.close(1000);
    });
  }

  /** Resets the TCP connection, like a lost network. */
  async reset() {
    this.ws._socket.resetAndDestroy();
    await this.closed;
  }

  // --- XEP-0198 -------------------------------------------------------------

  async enable() {
    this.counting.out = true;
    this.sent = [];
    this.send(`<enable xmlns='${NS.sm}' resume='true'/>`);
    this.handled = 0;
    this.counting.in = true;
    const enabled = await this.either('enabled', 'failed');
    if (!is(enabled, 'enabled', NS.sm)) throw new Error(`<enable/> failed: ${enabled}`);
    if (!['true', '1'].includes(enabled.getAttribute('resume'))) throw new Error('the session is not resumable');
    this.smId = enabled.getAttribute('id');
    return this;
  }

  /** Resumes the session of `before`; repeats what the server has not received. */
  async resume(before) {
    const { smId, handled, jid } = before;
    this.send(`<resume xmlns='${NS.sm}' previd='${escape(smId)}' h='${handled}'/>`);
    // The count continues after <resumed/>.
    this.handled = handled;
    this.counting = { in: true, out: true };
    const answer = await this.either('resumed', 'failed');
    if (!is(answer, 'resumed', NS.sm)) throw new Error(`<resume/> failed: ${answer}`);
    if (answer.getAttribute('previd') !== smId) throw new Error(`<resumed/> names ${answer.getAttribute('previd')}`);
    this.smId = smId;
    this.jid = jid;
    const seen = Number(answer.getAttribute('h'));
    if (!(seen >= 0 && seen <= before.sent.length)) throw new Error(`h is ${seen}, but ${before.sent.length} stanzas were sent`);
    this.sent = before.sent.slice(0, seen);
    this.resumedAt = seen;
    this.resent = before.sent.length - seen;
    for (const stanza of before.sent.slice(seen)) this.sendStanza(stanza);
    return this;
  }

  /** Requests the server's count of received stanzas with <r/>. */
  async serverCount() {
    this.elements.take((element) => is(element, 'a', NS.sm));
    this.send(`<r xmlns='${NS.sm}'/>`);
    return Number((await this.next('a', NS.sm)).getAttribute('h'));
  }
}
