//! What the workers of one daemon show each other of their metrics.
//!
//! Owns this worker's place on the board, and when it shows there what it has
//! counted: at most once a second, only after another turn of the loop, and at once
//! when it is asked itself and before it ends. What those before it in its place
//! have counted is kept, so that a sum over all does not fall when one dies.
//! Never wakes a worker that has nothing to do.

use std::io;
use std::rc::Rc;

use crate::metrics::Shown;
use crate::net::board::{Board, Writer};
use crate::session::Tick;
use crate::session::shared::Shared;

/// How often a worker shows what has changed, at most.
const PERIOD_MS: Tick = 1_000;

/// A worker's place among the others; without others, none.
#[derive(Default)]
pub(super) struct SharedMetrics {
    writer: Option<Writer>,
    /// What those before it have counted.
    base: Vec<u8>,
    /// When it is to show what has changed since.
    due: Option<Tick>,
    shown_at: Tick,
    /// That it cannot was said in the log.
    failed: bool,
}

impl SharedMetrics {
    /// Takes a place on the board, and shows there that it is one's own.
    pub fn take(board: &Rc<Board>, place: usize, worker: &Shared) -> SharedMetrics {
        let (writer, before) = board.take(place);
        let mut shared = SharedMetrics {
            writer: Some(writer),
            base: worker
                .metrics
                .inherit(&worker.gauges(), &before.unwrap_or_default()),
            ..SharedMetrics::default()
        };
        shared.show(worker);
        shared
    }

    /// Whether the master refused the configuration at the last reload.
    pub fn has_refused_reload(&self) -> bool {
        let writer = self.writer.as_ref();
        writer.is_some_and(|writer| writer.board().has_refused_reload())
    }

    /// When `show` is due.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// There was a turn: what it has changed is to be shown.
    pub fn note(&mut self, now: Tick) {
        if self.writer.is_some() && self.due.is_none() {
            self.due = Some(now.max(self.shown_at + PERIOD_MS));
        }
    }

    /// Shows what this worker has counted.
    pub fn show(&mut self, worker: &Shared) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        self.due = None;
        self.shown_at = worker.now;
        let mut page = Vec::new();
        worker.metrics.show(&worker.gauges(), &self.base, &mut page);
        let result = writer.show(&page);
        self.tell(result, worker);
    }

    fn tell(&mut self, result: io::Result<()>, worker: &Shared) {
        if let Err(error) = &result
            && !self.failed
        {
            worker.log.err(format_args!(
                "metrics of this worker are missing in the sum: {error}"
            ));
        }
        self.failed = result.is_err();
    }

    /// Shows for the last time, and that the worker is not there any more.
    pub fn leave(&mut self, worker: &Shared) {
        self.show(worker);
        if let Some(writer) = self.writer.take() {
            writer.board().vacate(writer.place());
        }
    }

    /// The page of the sum over all workers.
    pub fn sum(&mut self, worker: &Shared) -> String {
        // A scrape of another worker is not to show less than this one.
        self.show(worker);
        let mut page = String::new();
        let gauges = worker.gauges();
        worker
            .metrics
            .write_sum(&gauges, &self.base, &self.others(), &mut page);
        page
    }

    /// The page of each worker's own.
    pub fn each(&mut self, worker: &Shared) -> String {
        self.show(worker);
        let mut page = String::new();
        let gauges = worker.gauges();
        worker
            .metrics
            .write_each(&gauges, &self.others(), &mut page);
        page
    }

    fn others(&self) -> Vec<Shown> {
        let Some(writer) = &self.writer else {
            return Vec::new();
        };
        let board = writer.board();
        let others = (0..board.places()).filter(|place| *place != writer.place());
        let shown = others.filter_map(|place| {
            Some(Shown {
                worker: u16::try_from(place).ok()?,
                // Before the page: whoever left by then has shown its last.
                alive: board.is_taken(place),
                bytes: board.read(place)?,
            })
        });
        shown.collect()
    }
}
