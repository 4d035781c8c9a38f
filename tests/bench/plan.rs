//! What to measure.

use crate::relay::Form;

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Bytes of a stanza.
    pub size: usize,
    pub clients: usize,
    /// Stanzas on the way in each session.
    pub in_flight: usize,
    /// The goal: how many times HAProxy's cost.
    pub most: f64,
}

impl Cell {
    pub fn name(&self) -> String {
        format!("{}x{}x{}", self.size, self.clients, self.in_flight)
    }
}

/// What to measure in one form.
pub struct Part {
    pub form: Form,
    pub cells: Vec<Cell>,
    /// Numbers of sessions to set up, each with its goal: how many times HAProxy's cost.
    pub setups: Vec<(usize, f64)>,
    pub idle_sessions: usize,
    pub most_idle_bytes: f64,
}

/// Everything to measure.
pub struct Plan {
    pub parts: Vec<Part>,
    pub rounds: usize,
    pub round_ms: u64,
    pub only: Option<String>,
}

impl Plan {
    pub fn wants(&self, form: Form, name: &str) -> bool {
        let name = format!("{} {name}", form.word());
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }

    pub fn wants_any(&self, part: &Part) -> bool {
        let cells = part.cells.iter().map(Cell::name);
        let others = ["memory", "setup"].map(str::to_owned);
        let plain = ["latency", "fair"].map(str::to_owned).into_iter();
        let plain = plain.filter(|_| part.has_latency());
        cells
            .chain(others)
            .chain(plain)
            .any(|name| self.wants(part.form, &name))
    }
}

impl Part {
    /// Latency is measured in plain text only.
    pub fn has_latency(&self) -> bool {
        self.form == Form::Plain
    }
}
