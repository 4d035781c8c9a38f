'use strict';
// The server renders the page. This script puts the current one in its place, and says when
// the daemon does not answer.
const PERIOD_MS = 3000;
const TIMEOUT_MS = 4000;
const main = document.querySelector('main');
const state = document.getElementById('state');

function showTimes() {
  const today = new Date().toDateString();
  for (const time of document.querySelectorAll('time')) {
    const date = new Date(Number(time.dataset.ms));
    const day = date.toDateString() === today ? '' : `${date.toLocaleDateString()} `;
    time.title = time.textContent;
    time.textContent = day + date.toLocaleTimeString();
  }
}

async function refresh() {
  const response = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const next = new DOMParser().parseFromString(await response.text(), 'text/html');
  document.title = next.title;
  main.replaceChildren(...next.querySelector('main').childNodes);
  showTimes();
}

let answeredAt = Date.now();

async function turn() {
  if (!document.hidden) {
    try {
      await refresh();
      answeredAt = Date.now();
    } catch {
      const time = new Date(answeredAt).toLocaleTimeString();
      state.textContent = `No answer since ${time}. The numbers are old.`;
    }
  }
  const stale = Date.now() - answeredAt > PERIOD_MS + TIMEOUT_MS && !document.hidden;
  state.hidden = !stale;
  document.body.classList.toggle('stale', stale);
  setTimeout(turn, PERIOD_MS);
}

showTimes();
setTimeout(turn, PERIOD_MS);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh().catch(() => {});
});
