//! The cost of relaying, compared with HAProxy, which only copies bytes.
//!
//! `cargo bench` starts the daemon and HAProxy in `mode tcp` on one core. The same
//! clients and the same server drive both from another core, on loopback. The rounds
//! alternate, so other load on the machine affects both alike. Only the ratios are
//! meaningful then. The output is a table in Markdown; `-- --json FILE` writes the
//! numbers, `-- --help` lists the options.

mod clock;
mod load;
mod measure;
mod relay;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use load::Load;
use measure::{Cell, Plan};
use relay::Relay;

const HELP: &str = "\
cargo bench -- [OPTIONS]
  --quick            short rounds: a first look, not for publishing
  --only WORD        only the parts whose name contains WORD:
                     a cell such as 200x100x1, latency, memory, setup
  --program FILE     another build of jabsocket beside the others; may be repeated
  --json FILE        write the numbers there too
";

/// What to measure.
fn plan(quick: bool, only: Option<String>) -> Plan {
    let cell = |size, clients, in_flight, most| Cell {
        size,
        clients,
        in_flight,
        most,
    };
    Plan {
        cells: vec![
            cell(200, 100, 1, Some(1.15)),
            cell(200, 1000, 1, Some(1.15)),
            cell(200, 9900, 1, Some(1.15)),
            cell(4096, 100, 1, Some(1.3)),
            cell(200, 100, 16, Some(2.5)),
            cell(4096, 100, 16, Some(2.0)),
            cell(65_000, 1, 16, Some(1.6)),
        ],
        rounds: if quick { 3 } else { 9 },
        round_ms: if quick { 300 } else { 1000 },
        idle_sessions: if quick { 2000 } else { 5000 },
        only,
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut quick, mut only, mut json) = (false, None, None);
    let mut programs = vec![PathBuf::from(env!("CARGO_BIN_EXE_jabsocket"))];
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Added by cargo.
            "--bench" => {}
            "--quick" => quick = true,
            "--only" => only = args.next(),
            "--json" => json = args.next(),
            "--program" => programs.extend(args.next().map(PathBuf::from)),
            _ => {
                eprint!("{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    let plan = plan(quick, only);
    relay::raise_file_limit();
    relay::pin_generator();
    let load = Load::new();
    let mut relays = vec![Relay::haproxy(load.server_address())];
    for program in &programs {
        relays.push(Relay::jabsocket(program, load.server_address()));
    }
    let results = measure::all(&plan, load, &relays);
    print!("{}", report::markdown(&results));
    if let Some(file) = json
        && let Err(error) = std::fs::write(&file, report::json(&results))
    {
        eprintln!("{file}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
