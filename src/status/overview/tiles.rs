//! The numbers at the top of the page, each with a plot of the last ten minutes.

use std::fmt::Write;

use super::limited_memory;
use super::template::Fields;
use super::units::{bytes, count, latency, rate};
use crate::metrics::{Point, Report, Values, name};

/// The plot's view box.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 60.0;
/// Room for the width of a line at the top.
const TOP: f64 = 3.0;
const SPAN_MS: f64 = 600_000.0;

/// A number and its line in the plot.
struct Series {
    /// The class of the line.
    line: &'static str,
    value: String,
    what: &'static str,
    points: Vec<Point>,
}

pub(super) fn tiles(report: &Report<'_>) -> Vec<Fields> {
    vec![
        sessions(report),
        accepted(report),
        relayed(report, "Messages per second", name::RELAYED_MESSAGES, rate),
        relayed(report, "Payload per second", name::RELAYED_BYTES, bytes),
        quantiles(report, "Relay latency", name::RELAY_LATENCY),
        quantiles(report, "Time to open", name::TIME_TO_OPEN),
        memory(report),
        processor(report),
    ]
}

fn sessions(report: &Report<'_>) -> Fields {
    let now = report.total(name::SESSIONS);
    let series = Series {
        line: "alone",
        value: count(now),
        what: "open",
        points: report.levels(name::SESSIONS),
    };
    let most = count(report.total(name::SESSIONS_MAX));
    tile("Sessions", &[series], |peak| {
        format!("peak {}, limit {most}", count(peak as u64))
    })
}

fn accepted(report: &Report<'_>) -> Fields {
    let values = name::ACCEPTED_CONNECTIONS;
    let series = Series {
        line: "alone",
        value: rate(report.rate(values)),
        what: "per second",
        points: report.rates(values),
    };
    tile("New connections", &[series], |peak| {
        format!("peak {}/s", rate(peak))
    })
}

fn relayed(report: &Report<'_>, label: &str, values: Values, write: fn(f64) -> String) -> Fields {
    let series = [("up", "to servers"), ("down", "to browsers")];
    let series = series.map(|(direction, what)| Series {
        line: direction,
        value: write(report.rate(values.with(direction))),
        what,
        points: report.rates(values.with(direction)),
    });
    tile(label, &series, |peak| format!("peak {}", write(peak)))
}

fn quantiles(report: &Report<'_>, label: &str, histogram: Values) -> Fields {
    let series = [("up", "median", 0.5), ("down", "p99", 0.99)];
    let series = series.map(|(line, what, q)| Series {
        line,
        value: report
            .quantile(histogram, q)
            .map_or("–".to_owned(), latency),
        what,
        points: report.quantiles(histogram, q),
    });
    tile(label, &series, |peak| match peak {
        0.0 => String::new(),
        _ => format!("peak {}", latency(peak)),
    })
}

fn memory(report: &Report<'_>) -> Fields {
    let queues = name::HELD_BYTES.with("sessions");
    let limit = match report.total(name::HELD_BYTES_MAX) {
        0 => "no limit".to_owned(),
        limit => format!("limit {}", bytes(limit as f64)),
    };
    let series = [
        Series {
            line: "up",
            value: bytes(limited_memory::held(report) as f64),
            what: "held",
            points: limited_memory::levels(report),
        },
        Series {
            line: "down",
            value: bytes(report.total(queues) as f64),
            what: "in queues",
            points: report.levels(queues),
        },
    ];
    tile("Memory for sessions", &series, |peak| {
        format!("peak {}, {limit}", bytes(peak))
    })
}

fn processor(report: &Report<'_>) -> Fields {
    let values = name::PROCESS_CPU;
    // The values are in microseconds.
    let percent = |per_second: f64| per_second / 1e4;
    let points = report.rates(values).into_iter();
    let series = Series {
        line: "alone",
        value: format!("{:.0} %", percent(report.rate(values))),
        what: "of one core",
        points: points.map(|(age, value)| (age, percent(value))).collect(),
    };
    tile("Processor", &[series], |peak| format!("peak {peak:.0} %"))
}

/// `note` writes the highest value of all series.
fn tile(label: &str, series: &[Series], note: impl Fn(f64) -> String) -> Fields {
    let points = series.iter().flat_map(|series| &series.points);
    let peak = points.map(|(_, value)| *value).fold(0.0, f64::max);
    let values = series.iter().map(|series| {
        Fields::default()
            .text("line", series.line)
            .text("value", &series.value)
            .text("what", series.what)
    });
    let lines = series.iter().map(|series| line(series, peak));
    Fields::default()
        .text("label", label)
        .text("note", note(peak))
        .rows("values", values)
        .rows("lines", lines)
}

/// Returns the points of a line and of the area below it.
fn line(series: &Series, peak: f64) -> Fields {
    let mut points = String::new();
    let x = |age: u64| WIDTH - age as f64 / SPAN_MS * WIDTH;
    for (age, value) in &series.points {
        let share = if peak > 0.0 { value / peak } else { 0.0 };
        let y = HEIGHT - share * (HEIGHT - TOP);
        let written = write!(points, "{:.1},{y:.1} ", x(*age));
        debug_assert!(written.is_ok());
    }
    let area = match (series.points.first(), series.points.last()) {
        (Some((first, _)), Some((last, _))) => {
            format!("{:.1},{HEIGHT} {points}{:.1},{HEIGHT}", x(*first), x(*last))
        }
        _ => String::new(),
    };
    Fields::default()
        .text("line", series.line)
        .text("points", points.trim_end())
        .text("area", area)
}
