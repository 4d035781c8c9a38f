//! The configurations and the script in README.md, the guides and jabsocket.conf(5) work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use nix::unistd::getegid;

use crate::common::background::TempDir;
use crate::common::certificates::Authority;
use crate::common::daemon::{PROGRAM, TempFile};
use crate::common::documents::{self, Document, read};

/// Replaces the files that a configuration names by files that exist.
fn with_files(text: &str, files: &[(&str, &TempFile)]) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let replaced = files.iter().find_map(|(key, file)| {
            let at = line.find(&format!("{key}:"))?;
            Some(format!("{}{key}: {}", &line[..at], file.0.display()))
        });
        lines.push(replaced.unwrap_or_else(|| line.to_owned()));
    }
    lines.join("\n") + "\n"
}

/// The configurations in the documents, and the examples in the manual page, with a name.
fn configurations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents::all() {
        for block in document.blocks() {
            if block.language == "yaml" {
                found.push((document.name.clone(), block.text));
            }
        }
    }
    assert!(found.len() > 8, "only {} in the documents", found.len());
    let page = read("man/jabsocket.conf.5");
    let (_, examples) = page.split_once(".SH EXAMPLES\n").expect("examples");
    let examples = examples.split("\n.SH ").next().unwrap_or_default();
    let before = found.len();
    for block in examples.split(".nf\n").skip(1) {
        let text = block.split("\n.fi").next().unwrap_or_default();
        let text = text.lines().filter(|line| !line.starts_with('.'));
        let text = text.collect::<Vec<_>>().join("\n");
        let text = text.replace("\\-", "-").replace("\\(aq", "'");
        found.push(("jabsocket.conf(5)".to_owned(), text));
    }
    assert!(
        found.len() > before + 2,
        "only {} in jabsocket.conf(5)",
        found.len() - before
    );
    found
}

#[test]
fn documented_configurations_are_good() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity(&["chat.example.com"]).files(&[]);
    let ca = authority.ca_file();
    let files = [
        ("tls_certificate", &certificate),
        ("tls_key", &key),
        ("ca_file", &ca),
    ];
    for (name, text) in configurations() {
        let config = TempFile::new(&with_files(&text, &files));
        let output = Command::new(PROGRAM)
            .args(["--check-config", "-c"])
            .arg(&config.0)
            .output()
            .expect("run the daemon");
        let told = String::from_utf8_lossy(&output.stderr);
        // The addresses and directories are those of another host.
        let mut other = told
            .lines()
            .filter(|line| !line.contains("cannot listen on"));
        assert_eq!(other.next(), None, "{name}:\n{text}");
        assert!(output.status.success(), "{name}:\n{text}");
    }
}

/// The script for certbot, with this user's group and another directory and name.
fn run_hook(directory: &TempDir, renewed: &str) -> Output {
    let name = "man/guide/proxies.md".to_owned();
    let document = Document {
        text: read(&name),
        name,
    };
    let blocks = document.blocks();
    let script = blocks.iter().find(|block| block.language == "sh");
    let script = &script.expect("the script").text;
    let to = directory.path("to").display().to_string();
    for text in ["/etc/jabsocket-tls", "-g jabsocket"] {
        assert!(script.contains(text), "no {text} in\n{script}");
    }
    let script = script
        .replace("/etc/jabsocket-tls", &to)
        .replace("-g jabsocket", &format!("-g {}", getegid()));
    let bin = directory.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let systemctl = bin.join("systemctl");
    let calls = directory.path("calls");
    let stub = format!("#!/bin/sh\necho \"$@\" >>{}\n", calls.display());
    fs::write(&systemctl, stub).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new("sh")
        .args(["-c", &script])
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("RENEWED_DOMAINS", renewed)
        .env("RENEWED_LINEAGE", &directory.0)
        .output()
        .expect("run the script")
}

#[test]
fn the_hook_for_certbot_copies_the_files_and_reloads() {
    let directory = TempDir::new();
    for name in ["fullchain.pem", "privkey.pem"] {
        fs::write(directory.path(name), name).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.path(name), private).unwrap();
    }
    let other = run_hook(&directory, "example.org www.example.org");
    assert!(other.status.success(), "{other:?}");
    assert!(!directory.path("to").exists());
    for _ in 0..2 {
        let own = run_hook(&directory, "example.com chat.example.com");
        assert!(own.status.success(), "{own:?}");
    }
    for (name, mode) in [("fullchain.pem", 0o644), ("privkey.pem", 0o640)] {
        let file = directory.path("to").join(name);
        assert_eq!(fs::read_to_string(&file).unwrap(), name);
        let found = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    let calls = fs::read_to_string(directory.path("calls")).unwrap();
    assert_eq!(calls, "reload-or-restart jabsocket\n".repeat(2));
}
