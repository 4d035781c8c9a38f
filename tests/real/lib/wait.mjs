// Waiting for events and messages, always with a timeout.

import { show } from './show.mjs';

/** The default timeout. */
export const PATIENCE_MS = 60_000;

/** Resolves like `promise`; after `ms` rejects with an error that names `what`. */
export function within(ms, what, promise) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${ms} ms`)), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Received items that have not been taken yet, in order. */
export class Inbox {
  #items = [];
  #waiting = [];
  #error;

  push(item) {
    const index = this.#waiting.findIndex(({ match }) => match(item));
    if (index < 0) this.#items.push(item);
    else this.#waiting.splice(index, 1)[0].resolve(item);
  }

  /** Takes the first item that matches; the others keep their order. */
  next(match, what = 'the next item', ms = PATIENCE_MS) {
    const index = this.#items.findIndex(match);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]);
    if (this.#error) return Promise.reject(this.#error);
    let entry;
    const found = new Promise((resolve, reject) => {
      entry = { match, resolve, reject };
      this.#waiting.push(entry);
    });
    return within(ms, what, found).catch((error) => {
      this.#waiting = this.#waiting.filter((other) => other !== entry);
      if (this.#items.length > 0) error.message += `; other items: ${this.#items.map(show).join(', ').slice(0, 300)}`;
      throw error;
    });
  }

  /** Takes all items that match at present. */
  take(match = () => true) {
    const taken = this.#items.filter(match);
    this.#items = this.#items.filter((item) => !taken.includes(item));
    return taken;
  }

  /** Rejects all who wait, because nothing more will come. */
  fail(error) {
    this.#error = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

/** Resolves when the WebSocket closes, with code, reason and time. */
export function closeOf(socket) {
  return new Promise((resolve) => {
    socket.once('close', (code, reason) => resolve({ code, reason: reason.toString(), at: performance.now() }));
  });
}

/**
 * Ends a session with the library's own function `leave`, and waits until the library has
 * finished and the WebSocket is closed.
 */
export async function leaveAndWait(socket, leave) {
  const closed = closeOf(socket);
  const start = performance.now();
  await within(PATIENCE_MS, 'the client’s own close', leave());
  const libraryMs = performance.now() - start;
  const { code, reason, at } = await within(PATIENCE_MS, 'the WebSocket’s close', closed);
  return { code, reason, libraryMs, socketMs: at - start };
}
