// What the libraries expect of a browser and Debian 12's Node.js 18 lacks.

import { webcrypto } from 'node:crypto';
import { WebSocket } from 'ws';

globalThis.crypto ??= webcrypto;
globalThis.WebSocket = WebSocket;
