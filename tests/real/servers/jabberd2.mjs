// Starts jabberd2 on loopback with its data in a temporary directory: the router, the
// session manager and the component for clients, from Debian's package. Accounts are in
// SQLite, everything else in plain files. It has no stream management and no SASL2. Its own
// WebSocket is not compared with jabsocket, because it splits characters and closes without
// a Close frame.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child, freePort, temporaryDirectory } from '../lib/process.mjs';
import { USERS } from './prosody.mjs';

/** The session manager's modules for presence, rosters and chats. */
const CHAINS = {
  'in-sess': ['validate', 'roster', 'iq-ping', 'disco', 'offline', 'presence', 'deliver'],
  'in-router': ['session', 'validate', 'presence'],
  'pkt-sm': ['iq-ping', 'disco', 'presence'],
  'pkt-user': ['roster', 'presence', 'disco', 'deliver', 'offline'],
  'pkt-router': ['session', 'disco'],
  'user-load': ['active', 'roster'],
  'user-create': ['active'],
};

export async function startJabberd2({ domain = 'jabberd2.example' } = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(domain);
    } catch (error) {
      // Another process may have taken a port in the meantime.
      if (attempt === 3) throw error;
    }
  }
}

/** The directory with jabberd2's modules; its path contains the architecture. */
function modules() {
  const found = readdirSync('/usr/lib').map((name) => join('/usr/lib', name, 'jabberd2')).find(existsSync);
  if (!found) throw new Error('jabberd2 has no modules: tests/install.sh');
  return `<path>${found}</path>`;
}

/** The configuration of each of jabberd2's three programs. */
function configurations(directory, domain, routerPort, port) {
  const secret = '<user>jabberd</user><pass>secret</pass>';
  const router = `<router><ip>127.0.0.1</ip><port>${routerPort}</port>${secret}<retry><init>3</init></retry></router>`;
  const log = "<log type='stdout'/>";
  const accounts = Object.entries(USERS).map(([user, password]) =>
    `INSERT INTO authreg VALUES ('${user}', '${domain}', '${password}');`);
  return {
    router: `<router><id>router</id>${log}
<local><ip>127.0.0.1</ip><port>${routerPort}</port><users>${directory}/users.xml</users></local>
<aci><acl type='all'><user>jabberd</user></acl></aci></router>`,
    sm: `<sm><id>sm</id>${router}${log}
<local><id>${domain}</id></local>
<storage>${modules()}<driver>fs</driver><fs><path>${directory}/data</path></fs></storage>
<modules>${modules()}
${Object.entries(CHAINS).map(([id, names]) => `<chain id='${id}'>${names.map((name) => `<module>${name}</module>`).join('')}</chain>`).join('\n')}
</modules>
<user><auto-create/></user></sm>`,
    c2s: `<c2s><id>c2s</id>${router}${log}
<local><id>${domain}</id><ip>127.0.0.1</ip><port>${port}</port></local>
<io><limits><stanzas>0</stanzas><stanzasize>1048576</stanzasize></limits></io>
<authreg>${modules()}<module>sqlite</module>
<mechanisms><sasl><plain/><scram-sha-1/></sasl></mechanisms>
<sqlite><dbname>${directory}/accounts.db</dbname><sql>
CREATE TABLE authreg (username TEXT, realm TEXT, password TEXT);
${accounts.join('\n')}
</sql></sqlite></authreg></c2s>`,
  };
}

async function start(domain) {
  const directory = temporaryDirectory('jabberd2');
  const [routerPort, port] = [await freePort(), await freePort()];
  mkdirSync(join(directory, 'data'));
  writeFileSync(join(directory, 'users.xml'), '<users><user><name>jabberd</name><secret>secret</secret></user></users>\n');
  const files = Object.entries(configurations(directory, domain, routerPort, port)).map(([name, text]) => {
    const file = join(directory, `${name}.xml`);
    writeFileSync(file, `${text}\n`);
    return [name, file];
  });
  const children = {};
  // The others stop before the router.
  const stop = async () => { for (const child of Object.values(children).reverse()) await child.stop(); };
  const ready = { router: /listening for incoming connections/, sm: /ready for sessions/, c2s: /ready for connections/ };
  try {
    for (const [name, file] of files) {
      children[name] = new Child(`jabberd2-${name}`, `/usr/sbin/jabberd2-${name}`, ['-c', file], { cwd: directory });
      await children[name].waitForLine(ready[name]);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    name: 'jabberd2',
    streamManagement: false,
    ownPresence: false,
    domain,
    users: USERS,
    port,
    address: `127.0.0.1:${port}`,
    child: children.c2s,
    log: () => Object.values(children).map((child) => child.tail()).join('\n'),
    stop,
  };
}
