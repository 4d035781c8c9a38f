//! The echo server as a child process, and a test case for it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::ws_client::{Frame, Response, WsClient};

/// A running server. Dropping it stops the server.
pub struct EchoServer {
    child: Child,
    addr: SocketAddr,
}

impl EchoServer {
    pub fn start() -> EchoServer {
        EchoServer::start_with(&[])
    }

    pub fn start_with(options: &[&str]) -> EchoServer {
        let program = program();
        let mut child = Command::new(&program)
            .args(options)
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| {
                panic!(
                    "{}: {e}; build it: cargo build --example ws_echo",
                    program.display()
                )
            });
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let addr = line.trim_end().strip_prefix("listening on ").unwrap();
        EchoServer {
            child,
            addr: addr.parse().unwrap(),
        }
    }

    /// Opens a connection. Failures report `id`.
    pub fn case(&self, id: &str) -> Case {
        Case {
            id: id.to_owned(),
            client: WsClient::connect(self.addr, "/", &[], None).unwrap(),
        }
    }

    /// Opens a connection and offers these extensions; returns the response too.
    pub fn offering(&self, extensions: &str) -> (WsClient, Response) {
        let offer = [("Sec-WebSocket-Extensions", extensions)];
        WsClient::open(self.addr, "/", &offer, None).unwrap()
    }

    /// Another handle to the connection of a case.
    pub fn share(&self, case: &Case) -> TcpStream {
        case.client.stream.try_clone().unwrap()
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo builds examples next to the directory of the test executables.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/ws_echo")
}

/// One connection to the server.
pub struct Case {
    id: String,
    client: WsClient,
}

impl Case {
    /// Sends a frame; `first` is FIN, RSV and opcode.
    pub fn send(&mut self, first: u8, payload: &[u8]) {
        self.raw(&crate::common::ws_client::frame(first, payload));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.chopped(bytes, usize::MAX);
    }

    /// Sends in writes of `size` bytes. The server may close the connection before the
    /// last write; later reads check its response.
    pub fn chopped(&mut self, bytes: &[u8], size: usize) {
        if let Err(e) = self.client.send_chopped(bytes, size) {
            assert!(
                e.kind() == std::io::ErrorKind::BrokenPipe,
                "{}: {e}",
                self.id
            );
        }
    }

    /// Reads one unfragmented message or control frame.
    pub fn expect(&mut self, opcode: u8, payload: &[u8]) {
        let id = &self.id;
        match self.client.read_frame() {
            Ok(Some(Frame {
                fin: true,
                rsv: 0,
                opcode: got,
                payload: bytes,
            })) if got == opcode => {
                assert!(
                    bytes == payload,
                    "{id}: other payload, {} bytes",
                    bytes.len()
                );
            }
            Ok(Some(frame)) => {
                panic!(
                    "{id}: opcode {} fin {} rsv {}",
                    frame.opcode, frame.fin, frame.rsv
                )
            }
            other => panic!("{id}: {other:?}"),
        }
    }

    /// Starts the closing handshake and expects its end.
    pub fn close(mut self) {
        self.client.send_close(1000, "done").unwrap();
        self.expect_close(Some(1000), "done");
    }

    /// Expects the server's Close and then the end of the stream.
    pub fn expect_close(mut self, code: Option<u16>, reason: &str) {
        let close = self.client.read_close();
        let close = close.unwrap_or_else(|e| panic!("{}: {e}", self.id));
        assert_eq!(close, (code, reason.to_owned()), "{}", self.id);
        self.expect_eof();
    }

    /// Expects the server to fail the connection with this code, for any reason.
    pub fn expect_failure(mut self, code: u16) {
        let close = self.client.read_close();
        let close = close.unwrap_or_else(|e| panic!("{}: {e}", self.id));
        assert_eq!(close.0, Some(code), "{}: {close:?}", self.id);
        self.expect_eof();
    }

    /// The server closes first (RFC 6455, section 7.1.1), not after its timeout of a
    /// minute.
    fn expect_eof(mut self) {
        let at_once = Some(Duration::from_secs(30));
        self.client.stream.set_read_timeout(at_once).unwrap();
        let end = self.client.read_eof();
        end.unwrap_or_else(|e| panic!("{}: {e}", self.id));
    }
}
