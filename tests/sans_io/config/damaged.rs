//! A damaged or incomplete file never loses keys silently. The lost keys might be those
//! that restrict access.

use std::path::PathBuf;

use jabsocket::config::{self, Config, Sources};

use super::{good, refused, warned};

const WHOLE: &str = "# the start\nport: 443\nlisten:\n  - 127.0.0.1\n  - ::1\n\
    host: example.com\norigin: https://example.com\n\ndomains:\n  - example.com\n  \
    - name: example.net\n    server: xmpp.example.net:5222\n    tls: required\n\
    listeners:\n  - port: 80\n  - port: 81\n    resource: /x\n# the end\n";

/// A file for one test. Dropping it removes the file.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> File {
        let name = format!("jabsocket-damaged-{name}-{}", std::process::id());
        File(std::env::temp_dir().join(name))
    }

    fn load(&self, bytes: impl AsRef<[u8]>) -> Result<config::Loaded, Vec<config::Problem>> {
        std::fs::write(&self.0, bytes).unwrap();
        config::load(&self.0)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_character_that_does_not_print_is_reported_with_its_line() {
    for (c, code) in [
        ('\0', "U+0000"),
        ('\u{1}', "U+0001"),
        ('\u{c}', "U+000C"),
        ('\u{1b}', "U+001B"),
        ('\u{7f}', "U+007F"),
        ('\u{80}', "U+0080"),
        ('\u{9f}', "U+009F"),
        ('\u{feff}', "U+FEFF"),
        ('\u{fffe}', "U+FFFE"),
        ('\u{ffff}', "U+FFFF"),
    ] {
        let message = format!(
            "x.conf:2: the character {code} is not allowed; allowed: printable text; the file \
             may be damaged"
        );
        for text in [
            format!("port: 1\n{c}\ndomains: [a.b]\n"),
            format!("port: 1\nhost: a{c}b\n"),
            format!("port: 1\n# {c}{c}\n"),
            format!("port: 1\nhost: '{c}'"),
        ] {
            assert_eq!(refused(&text), std::slice::from_ref(&message), "{text:?}");
        }
    }
    for c in [
        '\t', '\u{85}', '\u{a0}', 'ü', '\u{d7ff}', '\u{e000}', '\u{fffd}', '😀',
    ] {
        good(&format!("port: 1 # {c}\n"));
    }
}

#[test]
fn whatever_is_put_between_two_lines_hides_none_of_those_behind() {
    let whole = good(WHOLE);
    let lines: Vec<&str> = WHOLE.lines().collect();
    for marker in [
        "\0",
        "...",
        "... # end",
        "---",
        "--- ",
        "---\t",
        "--- # x",
        "--- {}",
        "%YAML 1.2",
        "%x",
        "\u{feff}",
        "\t",
        "\t#",
        "\u{1a}",
        "? ",
        "?",
        "- ",
        ":",
        "{}",
        "}",
        "]",
        "'",
        "\"",
        "|",
        ">",
        "&a",
        "*",
        "!",
        "@",
        "`",
        ",",
        "\u{2028}",
        "\r",
        "\\",
        "~",
        "''",
        "#",
        "origin:",
        "host: ~",
    ] {
        for at in 0..=lines.len() {
            let (before, behind) = lines.split_at(at);
            let text = [before, &[marker], behind, &[""]].concat().join("\n");
            if let Ok(loaded) = config::parse("x.conf", &text) {
                let same = loaded.config == whole;
                assert!(same || !loaded.warnings.is_empty(), "{text}");
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_within_a_line_causes_a_warning() {
    let file = File::new("cut");
    assert_eq!(file.load(WHOLE).unwrap().warnings, []);
    for end in 1..WHOLE.len() {
        let cut = &WHOLE[..end];
        let (Ok(config::Loaded {
            warnings: problems, ..
        })
        | Err(problems)) = file.load(cut);
        let is_told = |p: &&config::Problem| p.to_string().contains("has no newline");
        let told = problems.iter().find(is_told);
        assert_eq!(told.is_some(), !cut.ends_with('\n'), "{cut}");
        if let Some(told) = told {
            assert_eq!(told.line, Some(cut.lines().count()), "{cut}");
            assert!(told.what.is_warning());
        }
    }
}

#[test]
fn a_file_that_ends_in_nuls_is_refused() {
    let file = File::new("nuls");
    for end in 0..WHOLE.len() {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes[end..].fill(0);
        let problems = file.load(&bytes).unwrap_err();
        let told = problems[0].to_string();
        assert!(
            told.contains("the character U+0000 is not allowed"),
            "{told}"
        );
        let line = 1 + WHOLE[..end].matches('\n').count();
        assert_eq!(problems[0].line, Some(line));
    }
}

#[test]
fn a_reload_refuses_a_file_without_text() {
    let file = File::new("empty");
    for text in ["", "\n", " \n\t\n", "\r\n\r\n"] {
        if let Ok(loaded) = file.load(text) {
            assert_eq!(loaded.config, Config::default());
        }
        let problems = Sources::read_again(&file.0).judge().unwrap_err();
        let told = problems[0].to_string();
        assert!(told.contains(": is empty; perhaps"), "{text:?}: {told}");
    }
    file.load("# all defaults\n").unwrap();
    let again = Sources::read_again(&file.0).judge().unwrap();
    assert_eq!(again.config, Config::default());
}

#[test]
fn a_second_key_without_a_value_is_an_error() {
    for (text, key, lines) in [
        ("origin: https://a.b\norigin:\n", "origin", (1, 2)),
        ("host: a\nport: 1\nhost: ~\n", "host", (1, 3)),
        (
            "listeners:\n  - origin: https://a.b\n    origin:\n",
            "listeners.origin",
            (2, 3),
        ),
    ] {
        let message = format!(
            "x.conf:{}: key '{key}': no value, after the value on line {}, is not allowed; \
             allowed: one of the two",
            lines.1, lines.0
        );
        assert!(refused(text).contains(&message), "{:?}", refused(text));
    }
    let (config, warnings) = warned("host: a\nhost: b\n");
    assert_eq!((config.top.host.as_deref(), warnings.len()), (Some("b"), 1));
}
