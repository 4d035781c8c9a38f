// The chat page, with Strophe.js in it, as one user sees it.

export class Chat {
  constructor(visitor, user) {
    Object.assign(this, { visitor, user });
  }

  /** Opens the page as `user`, who logs in. */
  open(address) {
    return this.visitor.page.goto(`${address}#${this.user}`);
  }

  /** What the page says of its connection once that is `kind`: online or failed. */
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
