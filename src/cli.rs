//! The command line: arguments in, one [`Command`] out.
//!
//! Owns the options, their defaults, and the texts of `--help` and `--version`. Prints
//! nothing, reads no files and never ends the process. The caller prints help and version
//! to standard output (exit status 0), and a [`UsageError`] with the usage text to standard
//! error ([`USAGE_EXIT_STATUS`]).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use getopts::{Fail, HasArg, Occur, Options};

/// The configuration file without `--config`.
const DEFAULT_CONFIG_PATH: &str = "/etc/jabsocket.conf";

/// The exit status after a [`UsageError`].
pub const USAGE_EXIT_STATUS: u8 = 2;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run {
        /// The configuration file.
        config: PathBuf,
        /// Stay in the foreground and log to standard error too.
        foreground: bool,
    },
    /// Check the configuration file, report all errors, and exit.
    CheckConfig {
        /// The configuration file.
        config: PathBuf,
    },
    /// Try the way to a domain's server, report each step, and exit.
    Try {
        /// The configuration file.
        config: PathBuf,
        /// The domain.
        domain: String,
        /// Report as JSON.
        json: bool,
    },
    /// Show [`usage_text`].
    Help,
    /// Show [`version_text`].
    Version,
}

/// The error for a command line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Reads the arguments after the program's name. If an option is given twice, the last
/// one applies.
pub fn parse(arguments: &[OsString]) -> Result<Command, UsageError> {
    let text = |argument: &OsString| match argument.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let shown = argument.to_string_lossy();
            Err(UsageError(format!("argument '{shown}' is not UTF-8 text")))
        }
    };
    let texts = arguments.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let matches = options().parse(texts).map_err(|fail| {
        UsageError(match fail {
            Fail::ArgumentMissing(name) | Fail::OptionMissing(name) => {
                format!("option {} needs a value", dashed(&name))
            }
            Fail::UnexpectedArgument(name) => format!("option {} takes no value", dashed(&name)),
            Fail::UnrecognizedOption(name) | Fail::OptionDuplicated(name) => {
                format!("unknown option {}", dashed(&name))
            }
        })
    })?;
    if let Some(text) = matches.free.first() {
        return Err(UsageError(format!(
            "unexpected argument '{text}'; use --config to name a configuration file"
        )));
    }
    let config = matches.opt_strs("config").pop();
    let config = config.map_or_else(|| PathBuf::from(DEFAULT_CONFIG_PATH), PathBuf::from);
    let domain = matches.opt_strs("try").pop();
    let json = matches.opt_present("json");
    if json && domain.is_none() {
        return Err(UsageError("option --json needs --try".to_owned()));
    }
    Ok(if matches.opt_present("help") {
        Command::Help
    } else if matches.opt_present("version") {
        Command::Version
    } else if matches.opt_present("check-config") {
        Command::CheckConfig { config }
    } else if let Some(domain) = domain {
        Command::Try {
            config,
            domain,
            json,
        }
    } else {
        Command::Run {
            config,
            foreground: matches.opt_present("nodaemon"),
        }
    })
}

/// An option's name with the dashes that the operator typed.
fn dashed(name: &str) -> String {
    let dashes = if name.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{name}")
}

/// The names of the options; [`usage_text`] has their descriptions.
fn options() -> Options {
    let mut options = Options::new();
    for (short, long, has_arg) in [
        ("c", "config", HasArg::Yes),
        ("n", "nodaemon", HasArg::No),
        ("v", "version", HasArg::No),
        ("h", "help", HasArg::No),
        ("", "check-config", HasArg::No),
        ("", "try", HasArg::Yes),
        ("", "json", HasArg::No),
    ] {
        options.opt(short, long, "", "", has_arg, Occur::Multi);
    }
    options
}

/// The name under which the program was called: the last part of `argv[0]`.
pub fn program_name(argv0: Option<&OsStr>) -> String {
    let name = argv0.and_then(|path| Path::new(path).file_name());
    let name = name.unwrap_or(OsStr::new("jabsocket"));
    name.to_string_lossy().into_owned()
}

/// The text of `--help`, ending in a newline.
pub fn usage_text(program: &str) -> String {
    format!(
        "\
Usage: {program} [OPTION]...
Lets web browsers talk to XMPP servers over WebSocket.

  --config, -c <config file>  - Configuration file (default is {DEFAULT_CONFIG_PATH})
  --nodaemon, -n              - Don't run as daemon (default is running as daemon)
  --version, -v               - Display the version
  --help, -h                  - Help message
  --check-config              - Check the configuration file, report all errors, and exit
  --try <domain>              - Connect to a domain's server, report each step and what is wrong, and exit
  --json                      - With --try: report as JSON, one object per line
"
    )
}

/// The text of `--version`, ending in a newline.
pub fn version_text(program: &str) -> String {
    format!("{program} version {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&arguments)
    }

    fn run(config: &str, foreground: bool) -> Result<Command, UsageError> {
        let config = PathBuf::from(config);
        Ok(Command::Run { config, foreground })
    }

    #[test]
    fn without_arguments_runs_as_daemon_on_the_default_file() {
        assert_eq!(parsed(""), run("/etc/jabsocket.conf", false));
    }

    #[test]
    fn every_spelling_of_the_options() {
        for line in ["-c a.conf -n", "-nca.conf", "-ca.conf -n"] {
            assert_eq!(parsed(line), run("a.conf", true), "{line}");
        }
        assert_eq!(parsed("--config=a.conf --nodaemon"), run("a.conf", true));
        assert_eq!(parsed("--config a.conf"), run("a.conf", false));
        assert_eq!(parsed("-v"), Ok(Command::Version));
        assert_eq!(parsed("--version"), Ok(Command::Version));
        assert_eq!(parsed("-h"), Ok(Command::Help));
        assert_eq!(parsed("--help -v"), Ok(Command::Help));
        let config = PathBuf::from("a.conf");
        assert_eq!(
            parsed("--check-config -n -c a.conf"),
            Ok(Command::CheckConfig { config })
        );
        for (line, json) in [("--try=a.b -n -cx", false), ("--json --try a.b -cx", true)] {
            let (config, domain) = (PathBuf::from("x"), "a.b".to_owned());
            let expected = Command::Try {
                config,
                domain,
                json,
            };
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn the_last_of_two_files_applies() {
        assert_eq!(
            parsed("-c a.conf -n -n --config b.conf"),
            run("b.conf", true)
        );
    }

    #[test]
    fn refusals_name_the_argument() {
        for (line, message) in [
            ("-x", "unknown option -x"),
            ("--bogus", "unknown option --bogus"),
            ("-c", "option -c needs a value"),
            ("--config", "option --config needs a value"),
            ("--help=1", "option --help takes no value"),
            ("--try", "option --try needs a value"),
            ("--json", "option --json needs --try"),
            (
                "a.conf",
                "unexpected argument 'a.conf'; use --config to name a configuration file",
            ),
        ] {
            assert_eq!(parsed(line).unwrap_err().to_string(), message, "{line}");
        }
    }

    #[test]
    fn arguments_that_are_not_utf8_are_refused() {
        let arguments = ["-c".into(), OsString::from_vec(b"/etc/\xff".to_vec())];
        assert_eq!(
            parse(&arguments).unwrap_err().to_string(),
            "argument '/etc/\u{fffd}' is not UTF-8 text"
        );
    }

    #[test]
    fn texts_name_the_program_as_it_was_called() {
        let program = program_name(Some(OsStr::new("/usr/bin/jabsocket-old")));
        assert_eq!(
            version_text(&program),
            concat!("jabsocket-old version ", env!("CARGO_PKG_VERSION"), "\n")
        );
        assert!(usage_text(&program).starts_with("Usage: jabsocket-old [OPTION]...\n"));
        assert_eq!(program_name(None), "jabsocket");
    }

    #[test]
    fn usage_keeps_the_wording_of_the_manual() {
        let usage = usage_text("jabsocket");
        for wording in [
            "--config, -c <config file>",
            "- Configuration file (default is /etc/jabsocket.conf)",
            "- Don't run as daemon (default is running as daemon)",
            "- Display the version",
            "- Help message",
        ] {
            assert!(usage.contains(wording), "{wording}");
        }
    }
}
