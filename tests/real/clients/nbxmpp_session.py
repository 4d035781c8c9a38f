"""Logs a user in with nbxmpp, the library of Gajim, for nbxmpp.mjs.

The first line of standard input has the account, as JSON. Each further line is a command: the
name of a method of `Session`, and its arguments. Each line of standard output is an event.
"""

import json
import sys

import gi
gi.require_version('Soup', '3.0')
from gi.repository import GLib
from nbxmpp.client import Client
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.namespaces import Namespace
from nbxmpp.protocol import Iq, Message, Presence
from nbxmpp.structs import StanzaHandler


def tell(event, **more):
    print(json.dumps({'event': event, **more}), flush=True)


class Session:
    def __init__(self, url, domain, user, password, mechanism, resource):
        self.client = Client()
        self.client.set_domain(domain)
        self.client.set_username(user)
        self.client.set_password(password)
        self.client.set_resource(resource)
        kind = ConnectionType.DIRECT_TLS if url.startswith('wss:') else ConnectionType.PLAIN
        self.client.set_custom_host(url, ConnectionProtocol.WEBSOCKET, kind)
        self.client.set_ignore_tls_errors(True)
        self.client.set_mechs({mechanism})
        for name, callback in [('message', self.on_message), ('presence', self.on_presence)]:
            self.client.register_handler(StanzaHandler(name=name, callback=callback, priority=60))
        for name in ['connected', 'resume-successful', 'resume-failed', 'connection-failed', 'disconnected']:
            self.client.subscribe(name, self.on_signal)
        self.client.connect()

    def on_signal(self, _client, name):
        error = [str(part) for part in self.client.get_error() if part]
        tell(name, jid=str(self.client.get_bound_jid()), error=': '.join(error))

    def on_message(self, _client, stanza, _properties):
        if stanza.getBody() is not None:
            tell('message', item={'from': str(stanza.getFrom()), 'body': stanza.getBody()})

    def on_presence(self, _client, stanza, _properties):
        tell('presence', item={
            'from': str(stanza.getFrom()), 'type': stanza.getType() or 'available',
            'show': stanza.getShow(), 'status': stanza.getStatus()})

    def connect(self):
        self.client.connect()

    def roster(self):
        def on_answer(_client, answer):
            items = answer.getTag('query', namespace=Namespace.ROSTER).getTags('item')
            tell('roster', items=[{key: item.getAttr(key) for key in ['jid', 'subscription']} for item in items])
        self.client.send_stanza(Iq('get', Namespace.ROSTER), callback=on_answer)

    def message(self, to, body):
        self.client.send_stanza(Message(to, body, typ='chat'))

    def presence(self, type=None, to=None, show=None, status=None):
        self.client.send_stanza(Presence(to, type, show=show, status=status))

    def raw(self, text):
        """Sends these bytes, and counts them as a stanza."""
        self.client.send_nonza(text)
        self.client._smacks.save_in_queue(Message(node=text))

    def close(self):
        websocket = self.client._con._websocket
        websocket.connect('closed', lambda at: tell('closed', code=at.get_close_code(), reason=at.get_close_data()))
        self.client.disconnect()

    def reset(self):
        self.client._con._websocket.get_io_stream().close()


def main():
    channel = GLib.IOChannel.unix_new(sys.stdin.fileno())
    session = Session(**json.loads(channel.readline()))

    def on_command(_channel, _condition):
        line = channel.readline()
        if not line:
            sys.exit()
        name, *arguments = json.loads(line)
        getattr(session, name)(*arguments)
        return True

    GLib.io_add_watch(channel, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, on_command)
    GLib.MainLoop().run()


main()
