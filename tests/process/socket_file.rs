//! The file of a Unix socket: its mode and owner, an existing file at its path, and its
//! removal by the daemon that created it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, geteuid};

use crate::common::background::{Background, children, locked_by_another, output};
use crate::common::background::{signal_to, wait_gone};
use crate::common::patiently;
use crate::common::ws_client::WsClient;

/// A daemon in the background, at `ws.sock` in its directory.
fn background(config: &str) -> Background {
    Background::new(&format!("listen: unix:{{dir}}/ws.sock\n{config}"))
}

fn started(config: &str) -> (Background, PathBuf) {
    let daemon = background(config);
    expect_start(&daemon);
    let path = daemon.dir.path("ws.sock");
    (daemon, path)
}

fn expect_start(daemon: &Background) {
    let output = daemon.start();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless a second daemon at the same path fails to start; returns its message.
fn refused(path: &Path, config: &str) -> String {
    let second = Background::new(&format!("listen: unix:{}\n{config}", path.display()));
    let output = second.start();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    told(&output)
}

/// Fails unless a daemon serves at this path.
fn expect_served(path: &Path) {
    let mut client = WsClient::new(UnixStream::connect(path).expect("connect"));
    let response = client.handshake("/", &[], Some("xmpp")).expect("an answer");
    assert_eq!(response.status, 101);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("the file").mode() & 0o7777
}

#[test]
fn the_file_is_removed_at_a_regular_exit() {
    for config in ["", "workers: 2\n"] {
        let (daemon, path) = started(config);
        let client = UnixStream::connect(&path).unwrap();
        let mut client = WsClient::new(client);
        client.handshake("/", &[], Some("xmpp")).unwrap();
        let pid = daemon.pid();
        daemon.signal(Signal::SIGTERM);
        // With an open session.
        assert_eq!(client.read_close().unwrap().0, Some(1001));
        client.send_close(1001, "").unwrap();
        wait_gone(pid);
        assert!(!path.exists(), "{config}");
    }
}

#[test]
fn no_other_user_can_keep_it_from_starting() {
    if !geteuid().is_root() {
        return;
    }
    let (daemon, path) = started("");
    let pid = daemon.pid();
    daemon.signal(Signal::SIGKILL);
    wait_gone(pid);
    assert!(path.exists(), "nothing is left of the first");
    let mut locked = locked_by_another(&daemon.dir.0);
    expect_start(&daemon);
    expect_served(&path);
    // The other user cannot prevent the removal of the file either.
    daemon.stop();
    assert!(!path.exists());
    locked.kill().unwrap();
    locked.wait().unwrap();
}

#[test]
fn the_file_goes_if_a_signal_comes_while_the_daemon_starts() {
    for config in ["", "workers: 2\n"] {
        let daemon = background(config);
        let path = daemon.dir.path("ws.sock");
        let mut process = daemon.command().arg("-n").spawn().unwrap();
        patiently("a listener", || UnixStream::connect(&path).ok());
        // The event loop has hardly begun.
        for signal in [Signal::SIGHUP, Signal::SIGTERM] {
            signal_to(process.id(), signal);
        }
        assert_eq!(process.wait().unwrap().code(), Some(0), "{config}");
        assert!(!path.exists() && !daemon.pid_file.exists(), "{config}");
    }
}

#[test]
fn the_file_stays_when_a_worker_ends() {
    let (daemon, path) = started("workers: 2\n");
    let inode = fs::metadata(&path).unwrap().ino();
    let before = children(daemon.pid());
    for (pid, signal) in before.iter().zip([Signal::SIGTERM, Signal::SIGKILL]) {
        signal_to(*pid, signal);
        wait_gone(*pid);
    }
    patiently("others", || {
        let now = children(daemon.pid());
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    });
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    expect_served(&path);
    daemon.stop();
}

#[test]
fn a_file_of_a_dead_process_is_replaced() {
    let (daemon, path) = started("");
    let pid = daemon.pid();
    daemon.signal(Signal::SIGKILL);
    wait_gone(pid);
    assert!(path.exists(), "nobody was there to remove it");
    expect_start(&daemon);
    expect_served(&path);
    daemon.stop();
    assert!(!path.exists());
}

#[test]
fn a_process_that_listens_there_is_left_alone() {
    let (daemon, path) = started("");
    for config in ["", "workers: 2\n"] {
        let told = refused(&path, config);
        let place = format!("cannot listen on unix:{}: ", path.display());
        assert!(told.contains(&place) && told.contains("in use"), "{told}");
    }
    expect_served(&path);
    daemon.stop();
    // A datagram socket is not replaced either.
    let dir = crate::common::background::TempDir::new();
    let path = dir.path("ws.sock");
    let _other = UnixDatagram::bind(&path).unwrap();
    assert!(refused(&path, "").contains("in use"));
    assert!(path.exists());
}

#[test]
fn an_abstract_name_can_be_in_use_too() {
    let name = format!("unix:@jabsocket-in-use-{}", std::process::id());
    let daemon = Background::started(&format!("listen: {name}\n"));
    let second = Background::new(&format!("listen: {name}\n"));
    let output = second.start();
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("in use"), "{}", told(&output));
    daemon.stop();
}

#[test]
fn files_other_than_sockets_are_left_alone() {
    let dir = crate::common::background::TempDir::new();
    let (file, directory, link) = (dir.path("file"), dir.path("directory"), dir.path("link"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&directory).unwrap();
    drop(UnixListener::bind(dir.path("socket")).unwrap());
    symlink(dir.path("socket"), &link).unwrap();
    for path in [&file, &directory, &link] {
        let told = refused(path, "");
        assert!(told.contains("path exists and is not a socket"), "{told}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(directory.is_dir() && link.is_symlink());
    let told = refused(&dir.path("nowhere/ws.sock"), "");
    assert!(told.contains("No such file or directory"), "{told}");
}

#[test]
fn another_process_s_file_is_not_removed() {
    let (daemon, path) = started("");
    let pid = daemon.pid();
    // Somebody has moved the socket and created another at its path.
    fs::rename(&path, daemon.dir.path("moved")).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    daemon.signal(Signal::SIGTERM);
    wait_gone(pid);
    assert!(path.exists(), "removed by the wrong one");
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let first = Background::started("");
    let port = first.address().port();
    let dir = crate::common::background::TempDir::new();
    let path = dir.path("ws.sock");
    let listeners = format!(
        "listeners:\n- listen: unix:{}\n- {{port: {port}, listen: 127.0.0.1}}\n",
        path.display()
    );
    let pid_file = format!("pid_file: {}\n", first.pid_file.display());
    for config in [&listeners, &pid_file] {
        refused(&path, config);
        assert!(!path.exists(), "{config}");
    }
    first.stop();
}

#[test]
fn the_mode_does_not_depend_on_the_umask() {
    for (config, expected) in [
        ("", 0o666),
        ("socket_mode: '0660'\n", 0o660),
        ("socket_mode: 600\n", 0o600),
        ("socket_mode: 0777\n", 0o777),
    ] {
        for umask in ["000", "077"] {
            let daemon = background(config);
            let command = daemon.command();
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "umask $0; exec \"$@\"", umask]);
            shell.arg(command.get_program()).args(command.get_args());
            let output = output(shell);
            assert_eq!(output.status.code(), Some(0), "{}", told(&output));
            assert_eq!(mode(&daemon.dir.path("ws.sock")), expected, "{config}");
            daemon.stop();
        }
    }
}

#[test]
fn root_gives_it_to_the_user_and_group_it_becomes() {
    if !geteuid().is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().expect("nobody");
    let daemon_group = Group::from_name("daemon").unwrap().expect("daemon").gid;
    let own = fs::metadata("/proc/self").unwrap().gid();
    for (config, directory_mode, group) in [
        ("user: nobody\n", 0o777, nobody.gid.as_raw()),
        (
            "user: nobody\ngroup: daemon\n",
            0o777,
            daemon_group.as_raw(),
        ),
        // A directory with the set-group-ID bit.
        ("user: nobody\ngroup: daemon\n", 0o2777, own),
    ] {
        let daemon = background(config);
        let permissions = fs::Permissions::from_mode(directory_mode);
        fs::set_permissions(&daemon.dir.0, permissions).unwrap();
        expect_start(&daemon);
        let path = daemon.dir.path("ws.sock");
        let data = fs::metadata(&path).unwrap();
        assert_eq!((data.uid(), data.gid()), (nobody.uid.as_raw(), group));
        let pid = daemon.pid();
        daemon.signal(Signal::SIGTERM);
        wait_gone(pid);
        assert!(!path.exists(), "{config}");
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_reused() {
    if !geteuid().is_root() {
        return;
    }
    let (daemon, path) = started("user: nobody\n");
    let pid = daemon.pid();
    daemon.signal(Signal::SIGTERM);
    wait_gone(pid);
    assert!(path.exists(), "removed by nobody in root's directory");
    expect_start(&daemon);
    expect_served(&path);
}

#[test]
fn check_config_binds_nothing() {
    let daemon = background("");
    let mut command = daemon.command();
    command.arg("--check-config");
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(!daemon.dir.path("ws.sock").exists());
}
