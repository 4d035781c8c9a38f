//! `--try`: a trial says in one sentence whether the server of a domain can be reached, and
//! what is wrong otherwise.

mod mistakes;
mod output;
mod servers;

use std::process::{Command, Output};
use std::thread::JoinHandle;

use crate::common::background::output;
use crate::common::daemon::{PROGRAM, TempFile};
use crate::common::tls_server::entry;

/// Features with a way to log in.
const LOGIN: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
    </stream:features>";

/// A trial that runs.
struct Trial(JoinHandle<Output>);

/// What a trial has printed.
struct Printed {
    steps: Vec<String>,
    verdict: String,
    status: i32,
}

impl Trial {
    fn start(domain: &str, config: &str) -> Trial {
        Trial::start_with(&["--try", domain], config)
    }

    fn start_with(arguments: &[&str], config: &str) -> Trial {
        let timeout = match config.contains("connect_timeout") {
            true => "",
            false => "connect_timeout: 3600\n",
        };
        let config = TempFile::new(&format!("{timeout}{config}"));
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("-c").arg(&config.0);
        let run = move || {
            let output = output(command);
            drop(config);
            output
        };
        Trial(std::thread::spawn(run))
    }

    fn end(self) -> Printed {
        let output = self.0.join().expect("a trial");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        assert_eq!(text(output.stderr), "");
        let mut steps: Vec<_> = text(output.stdout).lines().map(str::to_owned).collect();
        Printed {
            verdict: steps.pop().expect("a verdict"),
            steps,
            status: output.status.code().expect("no signal"),
        }
    }

    /// Fails unless the trial fails with this sentence.
    fn expect_failure(self, sentence: &str) -> Printed {
        let printed = self.end();
        assert_eq!(printed.verdict, sentence, "{:#?}", printed.steps);
        assert_eq!(printed.status, 1);
        printed
    }
}

impl Printed {
    /// Fails unless a line about this step contains `text`.
    fn expect_step(&self, step: &str, text: &str) {
        let is_it = |line: &&String| line.contains(&format!(" ms  {step} ")) && line.contains(text);
        let found = self.steps.iter().any(|line| is_it(&line));
        assert!(found, "{step}: {text} in {:#?}", self.steps);
    }
}

/// A configuration with one domain and its server.
fn listing(server: impl ToString, more: &[&str]) -> String {
    format!(
        "domains:\n{}",
        entry("example.org", &server.to_string(), None, more)
    )
}

/// The sentence about a certificate at this address.
fn certificate_at(address: impl ToString, what: &str) -> String {
    let address = address.to_string();
    format!("example.org does not work: the certificate at {address} {what}.")
}
