// Runs tests, each with one line of output and a timeout.

import { show } from './show.mjs';

export class Runner {
  passed = 0;
  failed = 0;
  #limit;

  /** `limit`: the timeout of a test, in milliseconds. */
  constructor(limit = 120_000) {
    this.#limit = limit;
  }

  /** Runs a test; returns whether it passed. */
  async test(name, body) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done in ${this.#limit} ms`)), this.#limit);
    });
    try {
      await Promise.race([body(), limit]);
    } catch (error) {
      this.failed++;
      console.log(`FAIL ${name}: ${(error?.message ?? show(error)).split('\n')[0]}`);
      const more = [...(error?.message ?? '').split('\n').slice(1), ...(error?.stack ?? '').split('\n').filter((line) => /^\s+at .*tests\/real/.test(line)).slice(0, 4)];
      for (const line of more) console.log(`  ${line.trimStart().replace(/file:\/\/\S*tests\/real\//, '')}`);
      if (this.onFailure) console.log(await this.onFailure());
      return false;
    } finally {
      clearTimeout(timer);
    }
    this.passed++;
    console.log(`ok ${name}`);
    return true;
  }
}

export function equal(actual, expected, what) {
  const [a, e] = [actual, expected].map((value) => JSON.stringify(value));
  if (a === e) return;
  let at = 0;
  while (a?.[at] === e?.[at]) at++;
  const cut = (text) => (text && text.length > 160 ? `…${text.slice(Math.max(0, at - 40), at + 120)}…` : text);
  throw new Error(`${what}: ${cut(a)} instead of ${cut(e)}`);
}

export function check(condition, message) {
  if (!condition) throw new Error(message);
}
