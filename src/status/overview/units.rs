//! Numbers as an operator reads them.

/// Formats a count: `12,345`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with at most two digits after the point: `0.05`, `1.4`, `85`.
fn short(number: f64) -> String {
    let digits = if number >= 9.95 || number == 0.0 {
        0
    } else if number >= 0.095 {
        1
    } else {
        2
    };
    format!("{number:.digits$}")
}

/// Formats the times per second: `0.4`, `350`, `1,200`.
pub(super) fn rate(rate: f64) -> String {
    if rate >= 999.5 {
        return count(rate.round() as u64);
    }
    short(rate)
}

/// Formats a number of bytes: `1.4 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut number = bytes;
    let mut at = 0;
    while number >= 999.5 && at + 1 < units.len() {
        number /= 1024.0;
        at += 1;
    }
    match at {
        0 => format!("{number:.0} B"),
        _ => format!("{} {}", short(number), units[at]),
    }
}

/// Formats a duration that a computer notices: `85 µs`.
pub(super) fn latency(seconds: f64) -> String {
    if seconds < 0.000_999_5 {
        format!("{} µs", short(seconds * 1e6))
    } else if seconds < 0.999_5 {
        format!("{} ms", short(seconds * 1e3))
    } else {
        format!("{} s", short(seconds))
    }
}

/// Formats a duration that a person notices, by its two largest units: `3 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let largest = units.iter().position(|(unit, _)| seconds >= *unit);
    let at = largest.unwrap_or(units.len() - 1);
    let (unit, name) = units[at];
    let first = format!("{} {name}", seconds / unit);
    match units.get(at + 1) {
        Some((smaller, name)) if seconds % unit >= *smaller => {
            format!("{first} {} {name}", seconds % unit / smaller)
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let rates = [0.0, 0.04, 0.43, 9.96, 350.2, 1_200.4].map(rate);
        assert_eq!(rates, ["0", "0.04", "0.4", "10", "350", "1,200"]);
        let sizes = [0.0, 999.0, 1024.0, 1_500_000.0, 3e13].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 KiB", "1.4 MiB", "27 TiB"]);
        let times = [0.000_085, 0.001_25, 0.25, 2.5].map(latency);
        assert_eq!(times, ["85 µs", "1.2 ms", "250 ms", "2.5 s"]);
        let spans = [0, 59, 60, 61, 3_600, 90_000, 86_430].map(span);
        let expected = ["0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 d 1 h", "1 d"];
        assert_eq!(spans, expected);
    }
}
