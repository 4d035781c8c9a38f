//! An upgrade in place. SIGUSR2 starts the program at the daemon's path. No connect is
//! refused, no session is closed, and no message is lost, duplicated or reordered.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::common::background::*;
use crate::common::daemon::{Daemon, PROGRAM};
use crate::common::patiently;
use crate::common::prometheus::{get, status_address, sum};
use crate::common::stage::*;
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::Connection;

/// A daemon whose program is a symbolic link that a test can change.
pub struct Upgradable {
    pub dir: TempDir,
    pub stage: Stage,
    pub config: String,
    /// The main processes up to this point.
    pub pids: Vec<u32>,
}

impl Upgradable {
    /// `{dir}` in the configuration is replaced by the test's directory.
    pub fn start(listen: &str, config: &str) -> Upgradable {
        let dir = TempDir::new();
        let program = dir.path("jabsocket");
        symlink(PROGRAM, &program).expect("a link");
        let server = crate::common::xmpp_server::XmppServer::start();
        let place = dir.0.display().to_string();
        let config = format!(
            "pid_file: {place}/pid\nlog_level: LOG_DEBUG\ndomains:\n  - name: example.org\n    \
             server: {}\n    tls: none\n{}",
            server.address,
            config.replace("{dir}", &place)
        );
        let listen = listen.replace("{dir}", &place);
        let daemon = Daemon::start_program(&program, &listen, &config, &[]);
        Upgradable {
            pids: vec![daemon.pid()],
            stage: Stage { server, daemon },
            config,
            dir,
        }
    }

    pub fn daemon(&self) -> &Daemon {
        &self.stage.daemon
    }

    pub fn main_pid(&self) -> u32 {
        *self.pids.last().expect("a process")
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(self.main_pid(), signal);
    }

    /// Requests an upgrade without waiting for it.
    pub fn begin(&self) -> usize {
        let seen = self.daemon().lines().len();
        self.signal(Signal::SIGUSR2);
        seen
    }

    /// Waits until the new process is the main process; returns its process ID.
    pub fn wait_promoted(&mut self, seen: usize) -> u32 {
        let line = self
            .daemon()
            .wait_for_line_after(seen, " serves new clients");
        let (_, rest) = line.split_once("upgrade: process ").expect("a process");
        let pid = rest.split(' ').next().unwrap().parse().expect("a number");
        self.pids.push(pid);
        pid
    }

    /// Waits for the new process and its PID file.
    fn wait_taken_over(&mut self, seen: usize) {
        let pid = self.wait_promoted(seen);
        patiently("the new process in the PID file", || {
            (fs::read_to_string(self.dir.path("pid")).ok()? == format!("{pid}\n")).then_some(())
        });
    }

    pub fn upgrade(&mut self) {
        let seen = self.begin();
        self.wait_taken_over(seen);
    }

    /// Changes the symbolic link.
    fn replace_program(&self, with: &Path) {
        let new = self.dir.path("new");
        symlink(with, &new).expect("a link");
        fs::rename(new, self.dir.path("jabsocket")).expect("a new link");
    }

    /// Requests an upgrade. Fails unless the upgrade fails with a reason that contains
    /// `why`.
    fn fails(&self, why: &str) {
        let seen = self.begin();
        let line = self.daemon().wait_for_line_after(seen, "upgrade failed");
        assert!(line.contains(why), "{line}");
        assert!(
            line.contains(&format!("jabsocket[{}]", self.main_pid())),
            "{line}"
        );
        let told = fs::read_to_string(self.dir.path("pid")).expect("a PID file");
        assert_eq!(told, format!("{}\n", self.main_pid()));
    }

    /// Stops all generations and waits for their end.
    pub fn stop(self) {
        self.signal(Signal::SIGTERM);
        for pid in &self.pids {
            wait_gone(*pid);
        }
        assert!(
            !self.dir.path("pid").exists(),
            "the PID file is still there"
        );
    }
}

impl Drop for Upgradable {
    fn drop(&mut self) {
        for pid in &self.pids {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("jabsocket") {
                let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
            }
        }
    }
}

/// A session with numbered messages in both directions.
struct Chat {
    client: WsClient,
    server: Connection,
    sent: usize,
    heard: usize,
}

impl Chat {
    fn open(stage: &Stage) -> Chat {
        let (client, server) = stage.framed();
        Chat {
            client,
            server,
            sent: 0,
            heard: 0,
        }
    }

    fn say(&mut self) {
        let text = format!("<a xmlns='u' n='{}'/>", self.sent);
        self.client.send_text(&text).expect("the session is open");
        self.server.send(&text);
        self.sent += 1;
    }

    /// Fails unless all messages arrive on both sides, in order.
    fn hear(&mut self) {
        for n in self.heard..self.sent {
            let text = format!("<a xmlns='u' n='{n}'/>");
            self.server.expect(&text);
            expect_text(&mut self.client, &text);
        }
        self.heard = self.sent;
    }

    /// Closes the session. Fails if other data came before.
    fn close(mut self) {
        self.client.send_text(CLIENT_CLOSE).unwrap();
        expect_stream_close(&mut self.client, 1000);
        self.server.expect_end();
    }
}

/// Connects repeatedly until it is stopped, at least once.
struct Knocking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Knocking {
    fn begin(daemon: &Daemon) -> Knocking {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (daemon.address, Arc::clone(&stop));
        let thread = spawn(move || {
            loop {
                let client = WsClient::connect(address, "/", &[], Some("xmpp"));
                client.expect("a connect that is served");
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Knocking { stop, thread }
    }

    /// Fails unless every connect was served.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no connect refused");
    }
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Ten upgrades and two failed ones, while old and new sessions exchange messages.
fn chat_through_upgrades(mut all: Upgradable) {
    let mut chats = vec![Chat::open(&all.stage)];
    let script = all.dir.path("broken");
    fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let say = |chats: &mut [Chat]| {
        for chat in chats {
            (0..20).for_each(|_| chat.say());
        }
    };
    for round in 0..12 {
        let knocking = Knocking::begin(all.daemon());
        // Some messages are in transit at the time of the signal.
        say(&mut chats);
        match round {
            3 => {
                all.replace_program(&script);
                all.fails("exit status: 3");
                all.replace_program(Path::new(PROGRAM));
            }
            7 => {
                all.daemon().configure("no_such_key: 1\ndomains: 5\n");
                all.fails("the configuration has errors");
                all.daemon().configure(&all.config);
            }
            _ => {
                let seen = all.begin();
                say(&mut chats);
                all.wait_taken_over(seen);
            }
        }
        say(&mut chats);
        chats.iter_mut().for_each(Chat::hear);
        knocking.end();
        chats.push(Chat::open(&all.stage));
    }
    // Each generation has the session that started in it, and its mark.
    let (newest, old) = all.pids.split_last().expect("processes");
    assert_eq!(
        (all.pids.len(), comm(*newest)),
        (11, "jabsocket".to_owned())
    );
    for (at, pid) in old.iter().enumerate() {
        assert_eq!(comm(*pid), format!("jabsocket-old{}", at + 1));
    }
    chats.into_iter().for_each(Chat::close);
    old.iter().for_each(|pid| wait_gone(*pid));
    // Descriptors do not accumulate.
    patiently("the end of all sessions", || {
        let seen = all.daemon().lines().len();
        all.signal(Signal::SIGUSR1);
        let line = all.daemon().wait_for_line_after(seen, ": status: ");
        ["status: 0 sessions", "status: master"]
            .iter()
            .any(|status| line.contains(status))
            .then_some(())
    });
    let count = descriptors(all.main_pid());
    all.upgrade();
    wait_gone(all.pids[all.pids.len() - 2]);
    let main = all.main_pid();
    patiently("as many descriptors", || {
        (descriptors(main) == count).then_some(())
    });
    all.stop();
}

#[test]
fn sessions_live_through_ten_upgrades_of_one_process() {
    chat_through_upgrades(Upgradable::start("127.0.0.1", ""));
}

#[test]
fn sessions_live_through_ten_upgrades_of_workers() {
    chat_through_upgrades(Upgradable::start("127.0.0.1", "workers: 2\n"));
}

#[test]
fn the_unix_socket_and_the_status_pass_on() {
    let mut all = Upgradable::start(
        "[127.0.0.1, \"unix:{dir}/socket\"]",
        "workers: 2\nstatus_listen: 127.0.0.1:0\n",
    );
    let path = all.dir.path("socket");
    let connect = || std::os::unix::net::UnixStream::connect(&path).expect("a listener");
    let before = fs::metadata(&path).expect("a socket").ino();
    let metrics = status_address(all.daemon());
    for generation in [2.0, 3.0] {
        connect();
        all.upgrade();
        let old = all.pids[all.pids.len() - 2];
        wait_gone(old);
        // When an old process ends, the file stays.
        assert_eq!(fs::metadata(&path).expect("a socket").ino(), before);
        assert_eq!(sum(metrics)["generation"], generation);
        let mut client = WsClient::new(connect());
        client
            .handshake("/", &[], Some("xmpp"))
            .expect("a handshake");
    }
    all.stop();
    assert!(!path.exists(), "the file is still there");
}

#[test]
fn the_metrics_tell_how_many_old_generations_have_sessions() {
    for config in ["", "workers: 2\n"] {
        let config = format!("{config}status_listen: 127.0.0.1:0\n");
        let mut all = Upgradable::start("127.0.0.1", &config);
        let metrics = status_address(all.daemon());
        let is = |count: f64| {
            patiently("the older generations", || {
                (sum(metrics)["older_generations"] == count).then_some(())
            });
        };
        is(0.0);
        let mut chats = Vec::new();
        for older in [1.0, 2.0] {
            chats.push(Chat::open(&all.stage));
            all.upgrade();
            is(older);
        }
        let page = get(metrics, "/").2;
        assert!(
            page.contains("generation 3 (2 older with sessions), up "),
            "{page}"
        );
        drop(chats);
        is(0.0);
        all.stop();
    }
}

#[test]
fn a_signal_to_the_newest_process_ends_all() {
    for config in ["", "workers: 2\n"] {
        let mut all = Upgradable::start("127.0.0.1", config);
        let mut chats = Vec::new();
        for _ in 0..3 {
            chats.push(Chat::open(&all.stage));
            all.upgrade();
        }
        let seen = all.daemon().lines().len();
        all.signal(Signal::SIGUSR1);
        for generation in 1..4 {
            let text = format!("generation {generation}, retired");
            all.daemon().wait_for_line_after(seen, &text);
        }
        all.daemon().wait_for_line_after(seen, "generation 4");
        all.signal(Signal::SIGTERM);
        for chat in &mut chats {
            expect_close(&mut chat.client, 1001, "shutting down");
            chat.server.expect_cut();
        }
        drop(chats);
        for pid in &all.pids {
            wait_gone(*pid);
        }
    }
}

#[test]
fn old_sessions_have_an_end() {
    let mut all = Upgradable::start("127.0.0.1", "old_sessions_timeout: 0.2\n");
    let mut chat = Chat::open(&all.stage);
    all.upgrade();
    expect_close(&mut chat.client, 1001, "shutting down");
    chat.server.expect_cut();
    drop(chat);
    wait_gone(all.pids[0]);
    Chat::open(&all.stage).close();
    all.stop();
}

#[test]
fn a_new_process_that_is_silent_is_given_up() {
    let all = Upgradable::start("127.0.0.1", "");
    let script = all.dir.path("silent");
    fs::write(&script, "#!/bin/sh\nexec sleep 3600\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    all.replace_program(&script);
    let seen = all.begin();
    all.daemon()
        .wait_for_line_after(seen, "starting the new process");
    let child = children(all.main_pid())[0];
    all.begin();
    let line = all.daemon().wait_for_line_after(seen, "upgrade failed");
    assert!(line.contains("another upgrade is in progress"), "{line}");
    all.daemon()
        .wait_for_line_after(seen, "did not serve within 20 s");
    wait_gone(child);
    Chat::open(&all.stage).close();
    all.stop();
}

#[test]
fn in_the_background_a_process_without_root_hands_over_to_another() {
    let user = match geteuid().is_root() {
        true => "user: nobody\n",
        false => "",
    };
    for workers in ["", "workers: 2\n"] {
        let all = Background::new(&format!("{user}{workers}"));
        // At a path where the other user can execute it.
        let program = all.dir.path("jabsocket");
        fs::copy(PROGRAM, &program).expect("a copy");
        let mut command = Command::new(&program);
        command.arg("-c").arg(&all.config).stdin(Stdio::null());
        let started = output(command);
        assert!(started.status.success(), "{started:?}");
        let (old, address) = (all.pid(), all.address());
        let user = status(old, "Uid:");
        all.signal(Signal::SIGUSR2);
        let new = patiently("another process in the PID file", || {
            let text = fs::read_to_string(&all.pid_file).ok()?;
            text.trim().parse().ok().filter(|pid: &u32| *pid != old)
        });
        wait_gone(old);
        assert_eq!((all.address(), status(new, "Uid:")), (address, user));
        let client = WsClient::connect(address, "/", &[], Some("xmpp"));
        drop(client.expect("a session"));
        all.signal(Signal::SIGTERM);
        wait_gone(new);
    }
}

#[test]
fn a_daemon_may_start_beside_an_old_generation_whose_newest_was_killed() {
    for workers in ["", "workers: 2\n"] {
        let mut all = Upgradable::start("127.0.0.1", workers);
        let mut chat = Chat::open(&all.stage);
        all.upgrade();
        all.signal(Signal::SIGKILL);
        wait_gone(all.main_pid());
        let program = all.dir.path("jabsocket");
        let another = Daemon::start_program(&program, "127.0.0.1", &all.config, &[]);
        drop(another);
        chat.say();
        chat.hear();
        chat.close();
    }
}
