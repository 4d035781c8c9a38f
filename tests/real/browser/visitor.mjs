// A user in a browser: a page, its requests, its WebSockets and its error messages.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Inbox, within } from '../lib/wait.mjs';

/** Timeout for everything in a page. A busy machine is slow. */
export const PATIENCE_MS = 45_000;

const top = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const pictures = resolve(top, process.env.CARGO_TARGET_DIR ?? 'target', 'screenshots');

export function removePictures() {
  rmSync(pictures, { recursive: true, force: true });
}

export class Visitor {
  /** URLs of all requests, WebSockets among them. */
  requests = [];
  /** Events of WebSockets: `{ event, url, protocol, code }`. */
  sockets = new Inbox();
  /** The beginning of each message that a WebSocket received. */
  received = new Inbox();
  /** Uncaught exceptions. */
  exceptions = [];

  constructor(name, context) {
    Object.assign(this, { name, context });
  }

  async prepare() {
    // A background tab is slow.
    const page = await this.context.newPage({ type: 'window' });
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('request', (request) => {
      if (!/^wss?:/.test(request.url())) this.requests.push(request.url());
    });
    page.on('pageerror', (error) => this.exceptions.push(error.message));
    await page.exposeFunction('reportWebSocket', (report) => this.#report(report));
    await page.evaluateOnNewDocument(watchWebSockets);
    this.page = page;
  }

  #report({ event, ...more }) {
    if (event === 'new') this.requests.push(more.url);
    else if (event === 'message') this.received.push(more.text);
    else this.sockets.push({ event, ...more });
  }

  socket(event) {
    return this.sockets.next((item) => item.event === event, `${this.name}: a WebSocket’s ${event}`, PATIENCE_MS);
  }

  /** Resolves when an element for `selector` is visible. */
  finds(selector) {
    return this.page.waitForSelector(selector, { visible: true });
  }

  fill(selector, text) {
    return this.page.locator(selector).fill(text);
  }

  click(selector) {
    return this.page.locator(selector).click();
  }

  /** Resolves when an element for `selector` has exactly this text. */
  async sees(selector, text) {
    try {
      await this.page.waitForFunction((css, wanted) =>
        [...document.querySelectorAll(css)].some((node) => node.checkVisibility() && node.textContent === wanted), {}, selector, text);
    } catch (error) {
      const there = await this.page.$$eval(selector, (nodes) => nodes.map((node) => node.textContent));
      throw new Error(`${this.name}: no ${selector} shows ${JSON.stringify(text.slice(0, 80))} but ${JSON.stringify(there).slice(0, 300)}: ${error.message}`);
    }
  }

  /** Reloads the page. `held` resolves when a file of the page has been requested and delivered. */
  async reload(held) {
    await Promise.all([this.page.reload(), within(PATIENCE_MS, `${this.name}: the reload`, held)]);
    // The old page may or may not have reported the close of its WebSocket.
    this.sockets.take(({ event }) => event === 'close');
  }

  /** Saves a screenshot; returns the file. */
  async picture(name, options) {
    mkdirSync(pictures, { recursive: true });
    const path = join(pictures, `${name}.png`);
    writeFileSync(path, await this.page.screenshot(options));
    return path;
  }

  close() {
    return this.context.close();
  }
}

/** Runs in each page before its own scripts. */
function watchWebSockets() {
  window.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      const report = (event, more) => window.reportWebSocket({ event, url: this.url, protocol: this.protocol, ...more });
      report('new');
      this.addEventListener('open', () => report('open'));
      this.addEventListener('message', ({ data }) => report('message', { text: data.slice(0, 200) }));
      this.addEventListener('close', ({ code, wasClean }) => report('close', { code, wasClean }));
    }
  };
}
