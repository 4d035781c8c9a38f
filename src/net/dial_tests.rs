//! The order of attempts, and what each attempt does to the slots of its address.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::*;
use crate::net::source::Source;

/// The surroundings of a dial. The test sets the time.
struct Stage {
    poll: mio::Poll,
    servers: Servers,
    now_ms: u64,
    sessions: usize,
}

fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn open() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that leaves connects unanswered, and the sockets that keep it so.
fn swallowing() -> (Vec<Box<dyn std::any::Any>>, SocketAddr) {
    let (listener, address) = open();
    let backlog = nix::sys::socket::Backlog::new(0).unwrap();
    nix::sys::socket::listen(&listener, backlog).unwrap();
    let mut kept: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300))
    {
        kept.push(Box::new(stream));
    }
    (kept, address)
}

fn target(address: SocketAddr) -> Target {
    Target {
        address: Address::Tcp(address),
        direct: false,
        is_fallback: false,
        backup: false,
        server: None,
    }
}

fn backup(address: SocketAddr) -> Target {
    Target {
        backup: true,
        ..target(address)
    }
}

impl Stage {
    fn new(most_connecting: usize) -> Stage {
        Stage {
            poll: mio::Poll::new().unwrap(),
            servers: Servers::new(most_connecting),
            now_ms: 0,
            sessions: 0,
        }
    }

    fn dial(&mut self, targets: &[Target]) -> Dial {
        self.sessions += 1;
        let mut dial = Dial::new(Caller {
            session: self.sessions,
            source: Source::Unix,
            domain: "d".into(),
            is_listed: true,
        });
        dial.add(targets.to_vec(), true);
        dial
    }

    fn step(&mut self, dial: &mut Dial) -> Progress {
        let registry = self.poll.registry();
        let meter = &mut Meter::default();
        dial.progress(registry, Token, &mut self.servers, meter, self.now_ms)
    }

    /// Starts the attempts that are due. Returns the ports of all attempts in progress.
    fn begin(&mut self, dial: &mut Dial) -> Vec<u16> {
        assert!(matches!(self.step(dial), Progress::Pending));
        let ports = dial.addresses().map(|at| at.tcp().unwrap().port());
        ports.collect()
    }

    /// Waits for the result of a dial without advancing its clock.
    fn run(&mut self, dial: &mut Dial) -> Progress {
        let mut events = mio::Events::with_capacity(8);
        for _ in 0..1000 {
            match self.step(dial) {
                Progress::Pending => {}
                done => return done,
            }
            let moment = Some(Duration::from_millis(10));
            self.poll.poll(&mut events, moment).unwrap();
        }
        panic!("no result");
    }

    /// Like `run`; returns the port that was connected to.
    fn connect(&mut self, dial: &mut Dial) -> u16 {
        match self.run(dial) {
            Progress::Connected { target, .. } => target.address.tcp().unwrap().port(),
            _ => panic!("not connected"),
        }
    }
}

#[test]
fn a_refused_address_is_followed_by_the_next_at_once() {
    let ((_listener, open), shut) = (open(), closed());
    let mut stage = Stage::new(32);
    let mut dial = stage.dial(&[target(shut), target(open)]);
    assert_eq!(stage.connect(&mut dial), open.port());
}

#[test]
fn all_refused_is_a_failure_that_names_the_last() {
    let shut = closed();
    let mut stage = Stage::new(32);
    let mut dial = stage.dial(&[target(shut)]);
    match stage.run(&mut dial) {
        Progress::Failed(Some(why)) => assert!(why.starts_with(&shut.to_string()), "{why}"),
        _ => panic!("connected to a closed port"),
    }
}

#[test]
fn targets_may_come_later() {
    let (_listener, open) = open();
    let mut stage = Stage::new(32);
    let mut dial = stage.dial(&[]);
    dial.add(Vec::new(), false);
    assert_eq!(stage.begin(&mut dial), []);
    dial.add(vec![target(open)], true);
    assert_eq!(stage.connect(&mut dial), open.port());
    assert!(matches!(stage.step(&mut dial), Progress::Failed(None)));
}

#[test]
fn the_second_session_does_not_wait_for_a_dead_first_target() {
    let ((_kept, dead), (_listener, open)) = (swallowing(), open());
    let targets = [target(dead), target(open)];
    let mut stage = Stage::new(32);
    let mut first = stage.dial(&targets);
    assert_eq!(stage.begin(&mut first), [dead.port()]);
    stage.now_ms = ATTEMPT_DELAY_MS;
    assert_eq!(stage.connect(&mut first), open.port());
    // The first session did not wait for the result from the dead address.
    stage.now_ms += 10;
    let mut second = stage.dial(&targets);
    assert_eq!(stage.begin(&mut second), [open.port()]);
    // Later a single session tries the dead address again.
    stage.now_ms += 1000;
    let [mut third, mut fourth] = [0; 2].map(|_| stage.dial(&targets));
    assert_eq!(stage.begin(&mut third), [dead.port()]);
    assert_eq!(stage.begin(&mut fourth), [open.port()]);
}

#[test]
fn a_backup_waits_until_all_others_fail() {
    let ((_kept, dead), (_listener, open)) = (swallowing(), open());
    let mut stage = Stage::new(32);
    let mut dial = stage.dial(&[backup(open), target(dead)]);
    assert_eq!(stage.begin(&mut dial), [dead.port()]);
    stage.now_ms = OVERDUE_MS - 1;
    assert_eq!(stage.begin(&mut dial), [dead.port()]);
    assert_eq!(dial.due_ms(), Some(OVERDUE_MS));
    stage.now_ms = OVERDUE_MS;
    assert_eq!(stage.connect(&mut dial), open.port());
    let mut second = stage.dial(&[backup(open), target(dead)]);
    assert_eq!(stage.begin(&mut second), [open.port()]);
    // A refused connect counts as a failure at once.
    let refused = closed();
    let mut third = stage.dial(&[backup(open), target(refused)]);
    assert_eq!(stage.connect(&mut third), open.port());
}

#[test]
fn a_session_waits_for_a_slot_and_no_other_target_is_tried() {
    let ((_kept, at), (_listener, other)) = (swallowing(), open());
    let targets = [target(at), target(other)];
    let mut stage = Stage::new(1);
    let mut first = stage.dial(&targets);
    assert_eq!(stage.begin(&mut first), [at.port()]);
    stage.now_ms = ATTEMPT_DELAY_MS - 1;
    let mut second = stage.dial(&targets[..1]);
    assert_eq!(stage.begin(&mut second), []);
    assert_eq!(second.due_ms(), None);
    stage.servers.queue.leave(first.caller().session);
    assert_eq!(
        stage.servers.queue.next_ready(),
        Some(second.caller().session)
    );
    assert_eq!(stage.begin(&mut second), [at.port()]);
    // The address fails, so the sessions that wait try another one.
    let mut third = stage.dial(&targets);
    assert_eq!(stage.begin(&mut third), []);
    stage.now_ms += OVERDUE_MS;
    stage.begin(&mut second);
    assert_eq!(
        stage.servers.queue.next_ready(),
        Some(third.caller().session)
    );
    assert_eq!(stage.begin(&mut third), [other.port()]);
}

#[test]
fn a_unix_socket_with_a_full_queue_is_tried_again() {
    let directory = std::env::temp_dir().join(format!("jabsocket-dial-{}", std::process::id()));
    let _ = std::fs::remove_file(&directory);
    let listener = std::os::unix::net::UnixListener::bind(&directory).unwrap();
    let backlog = nix::sys::socket::Backlog::new(0).unwrap();
    nix::sys::socket::listen(&listener, backlog).unwrap();
    let _queued = std::os::unix::net::UnixStream::connect(&directory).unwrap();
    let at = Address::Unix(directory.as_path().into());
    let mut stage = Stage::new(1);
    let mut dial = stage.dial(&[]);
    let target = Target {
        address: at.clone(),
        ..target(closed())
    };
    dial.add(vec![target], true);
    assert!(matches!(stage.step(&mut dial), Progress::Pending));
    assert_eq!(dial.due_ms(), Some(QUEUE_FULL_MS));
    let _accepted = listener.accept().unwrap();
    stage.now_ms = QUEUE_FULL_MS;
    match stage.run(&mut dial) {
        Progress::Connected { target, .. } => assert_eq!(target.address, at),
        _ => panic!("not connected"),
    }
    std::fs::remove_file(&directory).unwrap();
}
