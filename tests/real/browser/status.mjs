// The page of status_listen while two users chat: with its script, which shows the current
// numbers and says when jabsocket does not answer, without a script, and on a phone.

import { check, equal } from '../lib/runner.mjs';
import { Chat } from './chat.mjs';

const PHONE = { width: 390, height: 844 };

/** Resolves when a tile of the page has a value for which `accepts` returns true. */
function shows({ page }, label, accepts) {
  return page.evaluate((label, accepts) => new Promise((resolve) => {
    const look = () => {
      const tile = [...document.querySelectorAll('.tile')].find((tile) => tile.querySelector('h2').textContent === label);
      const values = [...tile.querySelectorAll('.values span')].map((node) => node.textContent);
      if (new RegExp(accepts).test(values.join(', '))) resolve(values);
    };
    new MutationObserver(look).observe(document.querySelector('main'), { childList: true });
    look();
  }), label, accepts.source);
}

/** Resolves when the page says that jabsocket does not answer, or no longer says it. */
function isStale({ page }, stale) {
  return page.evaluate((stale) => new Promise((resolve) => {
    const look = () => {
      const { hidden, textContent } = document.querySelector('#state');
      if (hidden !== stale && document.body.classList.contains('stale') === stale) resolve(textContent);
    };
    new MutationObserver(look).observe(document.body, { attributes: true, subtree: true });
    look();
  }), stale);
}

const isTooWide = ({ page }) => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);

export async function statusTests(runner, stage) {
  const test = (name, body) => runner.test(`${stage.name}: the status page ${name}`, body);
  const chats = [];
  let visitor;

  const there = await test('shows the sessions, and goes on by itself', async () => {
    for (const user of ['romeo', 'juliet']) {
      const chat = new Chat(await stage.visitor(`status-${user}`), user);
      await chat.open(stage.page);
      await chat.state('online');
      chats.push(chat);
    }
    visitor = await stage.visitor('status');
    visitor.problems = [];
    visitor.page.on('console', (message) => visitor.problems.push(message.text()));
    await visitor.page.goto(stage.status);
    equal(await shows(visitor, 'Sessions', /open/), ['2 open'], 'sessions');
    const [romeo, juliet] = chats;
    for (let n = 0; n < 20; n++) {
      await romeo.send(`Message ${n}`);
      await juliet.receives(`Message ${n}`);
    }
    await shows(visitor, 'Messages per second', /^[1-9].* to servers, [1-9]/);
    await stage.picture(visitor);
    check(!await isTooWide(visitor), 'the page is wider than the window');
  });
  if (!there) return;

  await test('says when jabsocket does not answer, and when it does again', async () => {
    process.kill(stage.jabsocket.pid, 'SIGSTOP');
    try {
      const text = await isStale(visitor, true);
      check(/^No answer since .+\. The numbers are old\.$/.test(text), text);
    } finally {
      process.kill(stage.jabsocket.pid, 'SIGCONT');
    }
    await isStale(visitor, false);
  });

  await test('fits a phone', async () => {
    await visitor.page.setViewport(PHONE);
    await visitor.page.goto(stage.status);
    await shows(visitor, 'Sessions', /^2 open$/);
    check(!await isTooWide(visitor), 'the page is wider than the window');
    await stage.picture({ name: `${visitor.name}-phone`, picture: (name) => visitor.picture(name, { fullPage: true }) });
  });

  await test('breaks no rule of its own policy', async () => {
    equal(visitor.problems.filter((text) => !/ERR_|Failed to load|NetworkError|TimeoutError/.test(text)), [], 'messages of the console');
    stage.quiet(visitor);
    equal([...new Set(visitor.requests)].filter((url) => !url.startsWith('data:')), [stage.status], 'requests');
  });

  if (stage.name === 'Chromium') {
    await test('has the same numbers without a script', async () => {
      const plain = await stage.visitor('status-plain');
      await plain.page.setJavaScriptEnabled(false);
      await plain.page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'light' }]);
      await plain.page.goto(stage.status);
      const text = await plain.page.$eval('main', (main) => main.innerText);
      for (const part of [/Sessions\s+2 open/, /relaying\s+2\s+0\s+0/, new RegExp(`${stage.domain.replaceAll('.', '\\.')}\\s+2\\s+\\d`)]) check(part.test(text), `${part}: ${text}`);
      await stage.picture({ name: plain.name, picture: (name) => plain.picture(name, { fullPage: true }) });
      await plain.close();
    });
  }
  for (const chat of chats) {
    const written = stage.newLines();
    await chat.leave();
    await written(/ ended by client: stream closed/);
    await chat.visitor.close();
  }
  await visitor.close();
}
