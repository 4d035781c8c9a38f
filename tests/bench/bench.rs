//! The cost of relaying, compared with HAProxy, which only copies bytes.
//!
//! `cargo bench` starts the daemon and HAProxy in `mode tcp` on one core. The same
//! clients and the same server drive both from another core, on loopback: in plain text,
//! with TLS from the clients, and with TLS to the server as well. The rounds alternate,
//! so other load on the machine affects both alike. Only the ratios are meaningful then.
//! The output is a table in Markdown; `-- --json FILE` writes the numbers, `-- --help`
//! lists the options.

mod clock;
#[path = "../common/mod.rs"]
mod common;
mod idle;
mod load;
mod measure;
mod plan;
mod plot;
mod relay;
mod report;
mod row;
mod socket;
mod stanza;
mod svg;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use load::Load;
use plan::{Cell, Part, Plan};
use relay::{Form, Relay};

const HELP: &str = "\
cargo bench -- [OPTIONS]
cargo bench -- scale [--svg FILE]
  --quick            short rounds: a first look, not for publishing
  --only WORD        only the parts whose name contains WORD:
                     plain, wss or tls, then a cell such as 200x100x1,
                     or latency, fair, memory, setup (such as 'wss 200x100x1')
  --program FILE     another build of jabsocket beside the others; may be repeated
  --json FILE        write the numbers there too, and a picture beside it
  scale              only what 1,000 to 1,000,000 simulated sessions in one process cost
";

/// What to measure.
fn plan(quick: bool, only: Option<String>) -> Plan {
    let cells = |goals: &[(usize, usize, usize, f64)]| {
        let cell = |&(size, clients, in_flight, most)| Cell {
            size,
            clients,
            in_flight,
            most,
        };
        goals.iter().map(cell).collect()
    };
    let with_tls = [
        (200, 100, 1, 0.95),
        (200, 100, 16, 1.0),
        (4096, 100, 1, 1.0),
        (4096, 100, 16, 1.0),
        (65_000, 1, 16, 1.0),
    ];
    let fewer = if quick { 5 } else { 1 };
    let plain = Part {
        form: Form::Plain,
        cells: cells(&[
            (200, 100, 1, 0.95),
            (200, 1000, 1, 0.95),
            (200, 9900, 1, 0.95),
            (4096, 100, 1, 1.0),
            (200, 100, 16, 1.25),
            (4096, 100, 16, 1.0),
            (65_000, 1, 16, 1.0),
        ]),
        setups: vec![(1000, 1.2), (9900, 1.2)],
        idle_sessions: 9900 / fewer,
        most_idle_bytes: 512.0,
    };
    let wss = Part {
        form: Form::Wss,
        cells: cells(&with_tls),
        setups: vec![(1000, 1.0)],
        idle_sessions: 5000 / fewer,
        most_idle_bytes: 12_000.0,
    };
    let tls = Part {
        form: Form::Tls,
        cells: cells(&with_tls),
        setups: vec![(1000, 0.8)],
        idle_sessions: 2500 / fewer,
        most_idle_bytes: 26_000.0,
    };
    Plan {
        parts: vec![plain, wss, tls],
        rounds: if quick { 3 } else { 9 },
        round_ms: if quick { 300 } else { 1000 },
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
            // For the other benchmark.
            "scale" => return ExitCode::SUCCESS,
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
    let start = |form, load: &Load| {
        let others = programs.iter();
        let others = others.map(|program| Relay::jabsocket(program, form, load));
        std::iter::once(Relay::haproxy(form, load))
            .chain(others)
            .collect()
    };
    let results = measure::all(&plan, Load::new(), start);
    print!("{}", report::markdown(&results));
    if let Some(file) = json.map(PathBuf::from) {
        let picture = file.with_extension("svg");
        let written = std::fs::write(&file, report::json(&results))
            .and_then(|()| std::fs::write(picture, plot::svg(&results)));
        if let Err(error) = written {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
