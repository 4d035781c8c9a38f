//! The jabsocket program: reads the command line and does what it asks for.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use jabsocket::cli::{self, Command};
use jabsocket::{check, start, trial};

/// Exit status when the daemon does not start, or its configuration is bad.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = cli::program_name(arguments.next().as_deref());
    let arguments: Vec<OsString> = arguments.collect();
    let done = match cli::parse(&arguments) {
        Ok(Command::Help) => print(&cli::usage_text(&program)),
        Ok(Command::Version) => print(&cli::version_text(&program)),
        Ok(Command::CheckConfig { config }) => check::run(&config),
        Ok(Command::Try {
            config,
            domain,
            json,
        }) => trial::run(&config, &domain, json),
        Ok(Command::Run { config, foreground }) => start::serve(&config, foreground),
        Err(error) => {
            eprint!("{program}: {error}\n{}", cli::usage_text(&program));
            return ExitCode::from(cli::USAGE_EXIT_STATUS);
        }
    };
    match done {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILURE),
    }
}

fn print(text: &str) -> bool {
    std::io::stdout().write_all(text.as_bytes()).is_ok()
}
