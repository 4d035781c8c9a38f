// The chat page with Strophe.js, for one user.

export class Chat {
  constructor(visitor, user) {
    Object.assign(this, { visitor, user });
  }

  /** Opens the page and logs in as `user`. */
  open(address) {
    return this.visitor.page.goto(`${address}#${this.user}`);
  }

  /** Waits until the connection is `kind` (online or failed); returns what the page says about it. */
  async state(kind) {
    const state = await this.visitor.finds(`#state.${kind}`);
    return state.evaluate((node) => node.textContent);
  }

  async send(text) {
    await this.visitor.fill('#text', text);
    await this.visitor.click('#send');
    await this.visitor.sees('#log li.mine', text);
  }

  receives(text) {
    return this.visitor.sees('#log li.theirs', text);
  }

  notes(text) {
    return this.visitor.sees('#log li.note', text);
  }

  async leave() {
    await this.visitor.click('#leave');
    const closed = await this.visitor.socket('close');
    await this.visitor.sees('#state', 'logged out; reload to log in again');
    return closed;
  }
}
