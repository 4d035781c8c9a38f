//! A browser's ticket is good at every worker, after a reload, for a worker that replaces
//! another, and after an upgrade.

use std::fs;
use std::io::{Read, Write};
use std::sync::mpsc::channel;

use nix::sys::signal::Signal;
use openssl::ssl::{SslConnector, SslSession, SslSessionCacheMode, SslStream, SslVersion};

use crate::common::background::{signal_to, wait_gone, workers};
use crate::common::patiently;
use crate::common::wss_stage::WssStage;

/// So many connections that each of two workers gets some of them.
const SOME: usize = 24;

/// A browser with a ticket from one worker.
struct Browser {
    connector: SslConnector,
    /// In DER, because OpenSSL may not use an object twice.
    ticket: Vec<u8>,
    version: SslVersion,
}

/// The main process after an upgrade. Does not outlive the test.
struct Generation(u32);

impl Drop for Generation {
    fn drop(&mut self) {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default();
        if name.starts_with("jabsocket") {
            signal_to(self.0, Signal::SIGKILL);
        }
    }
}

/// Connects, and tells whether TLS was resumed.
fn visit(stage: &WssStage, connector: &SslConnector, ticket: Option<&[u8]>) -> bool {
    let settings = connector.configure().expect("settings");
    let mut ssl = settings.into_ssl("example.com").expect("a connection");
    if let Some(ticket) = ticket {
        let ticket = SslSession::from_der(ticket).expect("a ticket");
        // SAFETY: the ticket comes from the same context.
        unsafe { ssl.set_session(&ticket) }.expect("a ticket");
    }
    let mut stream = SslStream::new(ssl, stage.tcp()).expect("TLS");
    stream.connect().expect("a handshake");
    let resumed = stream.ssl().session_reused();
    // The ticket comes before this refusal.
    let request = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    request.expect("write");
    let _ = stream.read_to_end(&mut Vec::new());
    let _ = stream.shutdown();
    resumed
}

impl Browser {
    fn new(stage: &WssStage, version: SslVersion) -> Browser {
        let mut builder = stage.connector();
        builder.set_max_proto_version(Some(version)).expect("it");
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT);
        let (sender, tickets) = channel::<SslSession>();
        builder.set_new_session_callback(move |_, session| {
            let _ = sender.send(session);
        });
        let connector = builder.build();
        assert!(!visit(stage, &connector, None));
        let ticket = tickets.try_recv().expect("a ticket");
        let ticket = ticket.to_der().expect("DER");
        Browser {
            connector,
            ticket,
            version,
        }
    }

    /// Fails unless each of many connections resumes TLS.
    fn comes_back(&self, stage: &WssStage, when: &str) {
        for n in 0..SOME {
            let resumed = visit(stage, &self.connector, Some(&self.ticket));
            assert!(resumed, "{when}: connection {n} with {:?}", self.version);
        }
    }
}

#[test]
fn a_ticket_is_good_at_every_worker_and_outlives_reload_and_upgrade() {
    let stage = WssStage::set(&[&["example.com"]], "workers: 2\n");
    let daemon = &stage.daemon;
    let browsers = [SslVersion::TLS1_2, SslVersion::TLS1_3].map(|v| Browser::new(&stage, v));
    let come_back = |when: &str| browsers.iter().for_each(|b| b.comes_back(&stage, when));
    come_back("at every worker");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    come_back("after a reload");
    let before = workers(daemon.pid(), 2);
    signal_to(before[0], Signal::SIGKILL);
    patiently("another worker", || {
        let now = workers(daemon.pid(), 2);
        (!now.contains(&before[0])).then_some(())
    });
    come_back("at a worker that replaces another");
    daemon.signal(Signal::SIGUSR2);
    let line = daemon.wait_for_line(" serves new clients");
    let (_, rest) = line.split_once("upgrade: process ").expect("a process");
    let number = rest.split(' ').next().expect("a number");
    let next = Generation(number.parse().expect("a number"));
    come_back("after an upgrade");
    signal_to(next.0, Signal::SIGTERM);
    wait_gone(next.0);
}
