// jabsocket --try against real servers.

import { spawnSync } from 'node:child_process';
import { configure } from './daemon.mjs';
import { check, equal } from './lib/runner.mjs';

/** Tries `domain`, by default that of the first server; returns its steps by name, the verdict and the exit status. */
function attempt(servers, domain = servers[0].domain) {
  const { binary, file } = configure(servers);
  const { status, stdout, stderr } = spawnSync(binary, ['--try', domain, '--json', '-c', file], { encoding: 'utf8', timeout: 60_000 });
  equal(stderr, '', 'standard error');
  const steps = stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
  const verdict = steps.pop();
  return { status, verdict, steps: Object.fromEntries(steps.map((step) => [step.step, step])) };
}

/** A trial must find that `server` works, with this version of TLS if any. */
export function works(runner, server, { tls } = {}) {
  return runner.test(`${server.name}: a trial finds that it works`, async () => {
    const { status, verdict, steps } = attempt([server]);
    check(verdict.ok && status === 0, verdict.text);
    check(verdict.text.startsWith(`${server.domain} works: ${server.address}, `), verdict.text);
    equal(steps.tls?.direct, tls?.direct, 'TLS at once');
    equal(steps.certificate?.names, tls && [server.domain], 'the names of the certificate');
    equal(steps.stream.from, server.domain, 'the sender of the stream header');
    check(steps.features.mechanisms.includes('SCRAM-SHA-1'), `mechanisms: ${steps.features.mechanisms}`);
    const bound = (names) => names.filter((name) => name.endsWith('-PLUS'));
    equal(bound(steps.features.mechanisms), [], 'mechanisms with channel binding that are left');
    const removed = bound(steps.removed?.removed ?? []);
    // With TLS, it depends on the server's version.
    if (tls?.binding || !tls) equal(removed.length > 0, Boolean(tls), 'mechanisms with channel binding are removed');
  });
}

/** A trial must fail for this reason. */
export function fails(runner, server, reason) {
  return runner.test(`${server.name}: a trial finds: ${reason}`, async () => {
    const { status, verdict } = attempt([server]);
    check(!verdict.ok && status === 1, verdict.text);
    check(verdict.text.startsWith(`${server.domain} does not work: `) && verdict.text.includes(reason), verdict.text);
  });
}

/** Trials of servers in plain text. */
export async function plainTrials(runner, servers) {
  for (const server of servers) {
    await works(runner, server);
    await fails(runner, { ...server, domain: 'other.example' }, `the server at ${server.address} does not serve it (host-unknown)`);
    const strict = { ...server, access: { tls: 'required' } };
    await fails(runner, strict, `${server.address} offers no STARTTLS`);
  }
}
