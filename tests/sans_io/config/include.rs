//! Files that a configuration includes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::spawn;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use jabsocket::config::{self, DomainRule, Loaded, Sources};

use super::{address, refused, shown};
use crate::common::PATIENCE;

/// A directory for one test. Dropping it removes the directory.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let name = format!("jabsocket-include-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("d")).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Loads a file that includes `d/*.conf`.
    fn load(&self, text: &str) -> Result<Loaded, Vec<String>> {
        let include = format!("include: {}/d/*.conf\n", self.0.display());
        self.write("main.conf", &(include + text));
        config::load(&self.path("main.conf")).map_err(|problems| self.short(&shown(&problems)))
    }

    /// Messages with the directory's path removed.
    fn short(&self, messages: &[String]) -> Vec<String> {
        let directory = format!("{}/", self.0.display());
        messages
            .iter()
            .map(|text| text.replace(&directory, ""))
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(loaded: &Loaded) -> Vec<&str> {
    let domains = loaded.config.domains.as_ref().unwrap();
    domains.iter().map(|domain| domain.name.as_str()).collect()
}

#[test]
fn keys_apply_and_lists_are_joined_in_the_order_of_names() {
    let directory = Directory::new("joined");
    directory.write(
        "d/b.conf",
        "domains: [b.example]\nlisteners:\n  - port: 2\n",
    );
    directory.write("d/a.conf", "domains: [a.example]\nhost: a\n");
    directory.write("d/.hidden.conf", "port: x\n");
    directory.write("d/other", "port: x\n");
    let loaded = directory
        .load("domains: [main.example]\nlisteners: [{port: 1}]\n")
        .unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(names(&loaded), ["main.example", "a.example", "b.example"]);
    let ports: Vec<u16> = loaded.config.listeners.iter().map(|l| l.port).collect();
    assert_eq!(ports, [1, 2]);
    // The keys of one file are the defaults of listeners in another.
    assert_eq!(loaded.config.listeners[1].host.as_deref(), Some("a"));
    let included = ["d/a.conf", "d/b.conf", "d/"].map(|name| directory.path(name));
    assert_eq!(loaded.config.included, included);
}

#[test]
fn a_single_file_or_a_list_may_be_named() {
    let directory = Directory::new("single");
    directory.write("one", "listen: ::1\n");
    directory.write("d/x[1].conf", "host: a\n");
    let (one, two) = (directory.path("one"), directory.path("d/x[[]?].conf"));
    let text = format!("include: [{}, '{}']\n", one.display(), two.display());
    directory.write("main", &text);
    let loaded = config::load(&directory.path("main")).unwrap();
    assert_eq!(loaded.config.top.listen, [address("::1")]);
    assert_eq!(loaded.config.top.host.as_deref(), Some("a"));
}

#[test]
fn errors_name_the_file_and_all_are_reported_at_once() {
    let directory = Directory::new("errors");
    directory.write("d/a.conf", "# a\nport: x\nfoo: 1\n");
    directory.write("d/b.conf", "domains:\n- name: a.b\n  tsl: none\n\tx\n");
    directory.write("d/c.conf", "host: a\nhost: b");
    let messages = directory.load("log_level: x\n").unwrap_err();
    let starts = [
        "main.conf:2: key 'log_level': 'x' is not allowed",
        "d/a.conf:2: key 'port': 'x' is not allowed",
        "d/a.conf:3: warning: key 'foo' is not known",
        "d/b.conf:4: is not valid YAML",
        "d/c.conf:2: warning: key 'host' is already set on line 1;",
        "d/c.conf:2: warning: the last line has no newline",
    ];
    let told = messages.len() == starts.len()
        && messages
            .iter()
            .zip(starts)
            .all(|(message, start)| message.starts_with(start));
    assert!(told, "{messages:#?}");
}

#[test]
fn a_key_in_two_files_is_an_error_with_both_places() {
    let directory = Directory::new("twice");
    directory.write(
        "d/a.conf",
        "\nport: 2\ndomains: [a.b]\nlisteners: [{port: 1}]\n",
    );
    directory.write("d/b.conf", "domains:\n- c.d\n- A.B\n");
    let main = "host: a\nport: 1\nlisteners:\n- port: 1\n";
    assert_eq!(
        directory.load(main).unwrap_err(),
        [
            "d/a.conf:2: key 'port': a second value, after the value on line 3 of main.conf, \
             is not allowed; allowed: one of the two",
            "d/a.conf:4: key 'listeners': port 1, which the entry on line 5 of main.conf already \
             uses, is not allowed; allowed: a different port, different addresses in 'listen', \
             or another name",
            "d/b.conf:3: key 'domains': 'a.b', which is already listed on line 3 of d/a.conf, \
             is not allowed; allowed: each domain in one file",
        ]
    );
}

#[test]
fn a_list_that_would_lock_everybody_out_stays_an_error() {
    let directory = Directory::new("empty");
    directory.write("d/a.conf", "domains: []\n");
    for main in ["domains: [a.b]\n", ""] {
        let messages = directory.load(main).unwrap_err();
        let last = messages.last().unwrap();
        assert!(
            last.contains("d/a.conf:1: key 'domains': an empty list"),
            "{messages:?}"
        );
    }
}

#[test]
fn files_that_cannot_be_included_are_reported() {
    let directory = Directory::new("bad");
    directory.write("d/a.conf", "include: /x\n");
    assert_eq!(
        directory.load("").unwrap_err(),
        [
            "d/a.conf:1: key 'include': a second value, after the value on line 1 of main.conf, \
             is not allowed; allowed: one of the two"
        ]
    );
    let include = |text: String| {
        directory.write("main", &text);
        match config::load(&directory.path("main")) {
            Ok(Loaded { warnings, .. }) => directory.short(&shown(&warnings)),
            Err(problems) => directory.short(&shown(&problems)),
        }
    };
    let root = directory.0.display();
    assert_eq!(
        include(format!("\ninclude: {root}/d/*.none\n")),
        ["main:2: warning: key 'include': no file matches 'd/*.none'"]
    );
    let missing = include(format!("include: {root}/none\n"));
    assert!(
        missing[0].starts_with("none: cannot be read: No such file"),
        "{missing:?}"
    );
    let missing = include(format!("port: 1\ninclude: {root}/none/*\n"));
    assert!(
        missing[0].starts_with("main:2: key 'include': 'none/' cannot be read: No such file"),
        "{missing:?}"
    );
    for text in ["d/*.conf", "/etc/*/a.conf", "/etc/", "''", "{a: 1}"] {
        let messages = refused(&format!("include: {text}"));
        assert!(
            messages[0].starts_with("x.conf:1: key 'include': ")
                && messages[0].contains("with a pattern only after the last '/'"),
            "{messages:?}"
        );
    }
    directory.write("d/a.conf", &"#".repeat(1024 * 1024 - 10));
    let large = directory.load("");
    assert_eq!(
        large.unwrap_err()[0],
        "d/a.conf: is too large; allowed: at most 1048576 bytes in all files together"
    );
}

#[test]
fn a_reload_refuses_an_empty_included_file() {
    let directory = Directory::new("reload");
    directory.write("d/a.conf", "\n");
    directory.load("domains: [a.b]\n").unwrap();
    let problems = Sources::read_again(&directory.path("main.conf"))
        .judge()
        .unwrap_err();
    assert_eq!(
        directory.short(&shown(&problems)),
        ["d/a.conf: is empty; perhaps another program is writing it"]
    );
}

#[test]
fn the_files_in_one_piece_are_the_same_configuration() {
    let directory = Directory::new("piece");
    directory.write("d/a.conf", "domains: [a.b]\n");
    directory.write("d/b.conf", "domains: [c.d]\nresource: /x\n");
    directory.write("d/c.conf", "");
    let loaded = directory.load("port: 7\n").unwrap();
    let piece = Sources::read(Path::new(&directory.path("main.conf"))).encode();
    // Independent of the files.
    std::fs::remove_dir_all(directory.path("d")).unwrap();
    let mut again = Sources::decode(&piece).judge().unwrap().config;
    assert_eq!(again.domain("a.b"), loaded.config.domain("a.b"));
    assert_ne!(again.domain("c.d"), DomainRule::Unlisted);
    again.included.push(directory.path("d/"));
    assert_eq!(again, loaded.config);
}

#[test]
fn only_regular_files_are_read_where_nobody_may_wait() {
    let directory = Directory::new("pipe");
    let main = directory.path("main.conf");
    let pipe = directory.path("d/a.conf");
    mkfifo(&pipe, Mode::S_IRUSR).unwrap();
    symlink("a.conf", directory.path("d/b.conf")).unwrap();
    symlink("c.conf", directory.path("d/c.conf")).unwrap();
    symlink("/dev/zero", directory.path("d/d.conf")).unwrap();
    std::fs::create_dir(directory.path("d/e.conf")).unwrap();
    let include = format!("include: {}/d/*.conf\n", directory.0.display());
    directory.write("main.conf", &include);
    let read = |path: PathBuf, read: fn(&Path) -> Sources| {
        let (tell, told) = channel();
        spawn(move || tell.send(read(&path)));
        told.recv_timeout(PATIENCE).expect("it waits")
    };
    for how in [Sources::read, Sources::read_again] {
        let problems = read(main.clone(), how).judge().unwrap_err();
        let mut told = directory.short(&shown(&problems));
        let circle = told.remove(2);
        assert!(
            circle.starts_with("d/c.conf: cannot be read: Too many levels of symbolic links"),
            "{circle}"
        );
        assert_eq!(
            told,
            ["a", "b", "d", "e"].map(|name| format!("d/{name}.conf: is not a regular file"))
        );
    }
}
