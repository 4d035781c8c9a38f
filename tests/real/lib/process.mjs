// Child processes and temporary directories, which end with this process.
//
// Each child has its own process group. Ctrl-C in a terminal then reaches only this
// process, which stops the others in order. If this process is killed, the kernel kills
// the children (setpriv --pdeathsig).

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const children = new Set();
const directories = new Set();
const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv'].find(existsSync);

function kill(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

// Also after an uncaught exception; all of it is synchronous.
process.on('exit', () => {
  for (const child of children) kill(-child.pid, 'SIGKILL');
  for (const directory of directories) rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});
for (const [signal, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]]) {
  process.on(signal, () => process.exit(128 + number));
}

export function temporaryDirectory(name) {
  const directory = mkdtempSync(join(tmpdir(), `jabsocket-${name}-`));
  directories.add(directory);
  return directory;
}

export class Child {
  constructor(name, command, args, { cwd, env, input = false } = {}) {
    this.name = name;
    this.lines = [];
    this.waiting = new Set();
    const line = SETPRIV ? [SETPRIV, '--pdeathsig', 'KILL', '--', command, ...args] : [command, ...args];
    this.process = spawn(line[0], line.slice(1), {
      cwd,
      env: { ...process.env, ...env },
      stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.pid = this.process.pid;
    if (this.pid !== undefined) children.add(this);
    for (const stream of [this.process.stdout, this.process.stderr]) this.#read(stream);
    this.exited = new Promise((resolve) => {
      const end = (code, signal) => {
        children.delete(this);
        this.ended = { code, signal };
        for (const wait of this.waiting) wait.end();
        resolve(this.ended);
      };
      this.process.on('error', (error) => {
        this.#line(`${name} did not start: ${error.message}`);
        end(null, null);
      });
      this.process.on('close', end);
    });
  }

  #read(stream) {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) this.#line(line);
    });
    stream.on('end', () => rest && this.#line(rest));
  }

  #line(text) {
    this.lines.push(text);
    for (const wait of this.waiting) wait.line(text);
  }

  /** Waits for the first line that matches `pattern`, from number `from` on; returns the match. */
  waitForLine(pattern, { from = 0, ms = 30_000 } = {}) {
    for (const line of this.lines.slice(from)) {
      const match = pattern.exec(line);
      if (match) return Promise.resolve(match);
    }
    return new Promise((resolve, reject) => {
      const done = (settle, value) => {
        clearTimeout(timer);
        this.waiting.delete(wait);
        settle(value);
      };
      const wait = {
        line: (text) => {
          const match = pattern.exec(text);
          if (match) done(resolve, match);
        },
        end: () => done(reject, new Error(`${this.name} ended before it wrote ${pattern}:\n${this.tail()}`)),
      };
      const timer = setTimeout(
        () => done(reject, new Error(`${this.name} has not written ${pattern} in ${ms} ms:\n${this.tail()}`)), ms);
      this.waiting.add(wait);
      if (this.ended) wait.end();
    });
  }

  /** Calls `line` with each further line, and `end` when the process has ended. */
  listen(line, end) {
    this.waiting.add({ line, end });
  }

  tail(count = 15) {
    return this.lines.slice(-count).map((line) => `    ${this.name}| ${line}`).join('\n');
  }

  /** Sends `signal`, and SIGKILL after `ms`; returns the exit status and signal. */
  async stop(signal = 'SIGTERM', ms = 10_000) {
    if (this.ended || this.pid === undefined) return this.exited;
    kill(this.pid, signal);
    const timer = setTimeout(() => kill(-this.pid, 'SIGKILL'), ms);
    const ended = await this.exited;
    clearTimeout(timer);
    return ended;
  }
}

/**
 * An unused loopback port below the range for outgoing connections, so only another test
 * run could take it.
 */
export async function freePort() {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 12_000 + Math.floor(Math.random() * 18_000);
    const free = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
  throw new Error('found no free port');
}

/** Resolves when the port accepts connections. */
export async function waitForPort(port, ms = 20_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const open = await new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => { socket.destroy(); resolve(true); });
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    if (Date.now() > deadline) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
