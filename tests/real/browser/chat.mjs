// The chat page, with Strophe.js in it, as one user sees it.

export class Chat {
  constructor(visitor, user) {
    Object.assign(this, { visitor, user });
    this.page = visitor.page;
  }

  /** Opens the page as `user`, who logs in. */
  open(address) {
    return this.page.goto(`${address}#${this.user}`);
  }

  /** What the page says of its connection once that is `kind`: online or failed. */
  async state(kind) {
    await this.page.locator(`#state.${kind}`).waitFor();
    return this.page.locator('#state').textContent();
  }

  async send(text) {
    await this.page.locator('#text').fill(text);
    await this.page.locator('#send').click();
    await this.visitor.sees('#log li.mine', text);
  }

  receives(text) {
    return this.visitor.sees('#log li.theirs', text);
  }

  notes(text) {
    return this.visitor.sees('#log li.note', text);
  }

  async leave() {
    await this.page.locator('#leave').click();
    const closed = await this.visitor.socket('close');
    await this.visitor.sees('#state', 'logged out; reload to log in again');
    return closed;
  }
}
