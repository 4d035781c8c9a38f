//! What 1,000 to 1,000,000 sessions in one process cost: memory, and the processor time of
//! turns of the loop.
//!
//! `cargo bench -- scale` runs the daemon's event loop over simulated sockets
//! (`src/reactor/scale/`), because no machine has sockets for so many, and prints tables in
//! Markdown. It exits with status 1 if a turn of the loop took more than 10 ms, so that all
//! other sessions would have waited. `--svg FILE` writes a picture.

#[path = "scale/plot.rs"]
mod plot;
#[path = "scale/result.rs"]
mod result;
mod svg;

use std::process::{Command, ExitCode};

use result::{MOST_MS, Result};

const SESSIONS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const TEST: &str = "reactor::scale::what_many_sessions_cost";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut wanted, mut svg) = (false, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "scale" => wanted = true,
            "--svg" => svg = args.next(),
            // For the other benchmarks.
            _ => {}
        }
    }
    if !wanted {
        return ExitCode::SUCCESS;
    }
    let Some(results) = SESSIONS
        .into_iter()
        .map(measure)
        .collect::<Option<Vec<_>>>()
    else {
        return ExitCode::FAILURE;
    };
    println!("{}", result::markdown(&results));
    if let Some(file) = svg
        && let Err(error) = std::fs::write(&file, plot::svg(&results))
    {
        eprintln!("{file}: {error}");
        return ExitCode::FAILURE;
    }
    let longest = results.iter().map(Result::longest_ms).fold(0.0, f64::max);
    ExitCode::from(u8::from(longest > MOST_MS))
}

/// Runs the simulation in a process of its own, so that its memory can be measured.
fn measure(sessions: usize) -> Option<Result> {
    eprintln!("{sessions} sessions");
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--quiet", "--profile", "bench", "--lib", "--"])
        .args(["--ignored", "--exact", TEST, "--nocapture"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SESSIONS", sessions.to_string())
        // As in the daemon, which has one thread.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .expect("cargo");
    let text = String::from_utf8_lossy(&output.stdout);
    let result = Result::parse(sessions, &text);
    if !output.status.success() || result.is_none() {
        eprint!("{text}{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    result
}
