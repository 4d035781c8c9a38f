//! A host that vanishes sends neither FIN nor reset. TCP detects it by keepalive probes
//! on idle connections, and by missing acknowledgements otherwise. The test has two
//! network namespaces, with a veth pair between them that it takes down.

use std::net::TcpListener;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::own_network::{in_own_network, ip, leave_the_network};
use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::XmppServer;
use nix::sys::signal::Signal;

/// The addresses of the daemon's and the other end of the veth pair.
const HERE: &str = "10.99.0.1";
const THERE: &str = "10.99.0.2";

type Job = Box<dyn FnOnce() + Send>;

/// A thread in another network namespace.
struct Elsewhere(Sender<Job>);

impl Elsewhere {
    fn new() -> Elsewhere {
        let (sender, jobs) = channel::<Job>();
        thread::spawn(move || {
            assert!(leave_the_network());
            jobs.into_iter().for_each(|job| job());
        });
        Elsewhere(sender)
    }

    /// Runs a job in that thread.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = channel();
        let job = move || sender.send(job()).expect("somebody waits");
        self.0.send(Box::new(job)).expect("the thread");
        result.recv().expect("a result")
    }
}

/// Connects both namespaces by a veth pair.
fn connect(there: &Elsewhere) {
    // SAFETY: the call takes no arguments and cannot fail.
    let thread_id = there.run(|| unsafe { nix::libc::gettid() });
    ip("link add near type veth peer name far");
    ip(&format!("link set far netns {thread_id}"));
    ip(&format!("addr add {HERE}/24 dev near"));
    ip("link set near up");
    there.run(|| {
        ip(&format!("addr add {THERE}/24 dev far"));
        ip("link set far up");
    });
}

#[test]
fn sessions_end_whose_peers_host_has_vanished() {
    in_own_network(lose_a_host);
}

fn lose_a_host() {
    let there = Elsewhere::new();
    connect(&there);
    let far = XmppServer::over(there.run(|| TcpListener::bind((THERE, 0)).expect("bind")));
    let near = XmppServer::start();
    let domains = format!(
        "ping_interval: 0\nlog_level: LOG_INFO\ndomains:\n\
         \x20 - {{name: example.org, server: '{}', tls: none}}\n\
         \x20 - {{name: example.net, server: '{}', tls: none}}\n",
        far.address, near.address
    );
    let daemon = Daemon::start_on(HERE, &domains);
    // A reload also applies to listeners.
    daemon.configure(&format!("write_timeout: 1\n{domains}"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    let session = |mut client: WsClient, server: &XmppServer, domain: &str| {
        let named = |text: &str| text.replace("example.org", domain);
        client.send_text(&named(OPEN)).unwrap();
        let mut server = server.accept();
        server.expect(&named(OPEN_UP));
        server.send(&named(HEADER));
        expect_text(&mut client, &named(HEADER_DOWN));
        (client, server)
    };
    let idle = session(daemon.client(), &far, "example.org");
    let mut busy = session(daemon.client(), &far, "example.org");
    let address = daemon.address;
    let browser = there.run(move || WsClient::connect(address, "/", &[], Some("xmpp")));
    let mut browsing = session(browser.expect("a browser"), &near, "example.net");

    there.run(|| ip("link set far down"));
    busy.0.send_text(PRESENCE).unwrap();
    browsing.1.send("<a xmlns='urn:x'/>");
    daemon.wait_for_lines("ended by server: connection lost", 2);
    daemon.wait_for_lines("ended by client: connection lost", 1);
    drop((idle, busy, browsing));
    daemon.stop();
}
