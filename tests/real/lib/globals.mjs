// Browser functions that the libraries need and Node.js 18 from Debian 12 lacks.

import { webcrypto } from 'node:crypto';
import { WebSocket } from 'ws';

globalThis.crypto ??= webcrypto;
globalThis.WebSocket = WebSocket;
