//! The parts of the benchmarks' pictures.

use std::fmt::Write;

/// The beginning of a document of this size.
pub fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' \
         font-family='sans-serif' font-size='12'>\n\
         <rect width='{width}' height='{height}' fill='#ffffff'/>\n"
    )
}

pub fn label(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        text,
        "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>"
    );
}

pub fn line(text: &mut String, points: &[(f64, f64)], colour: &str) {
    let points: Vec<_> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let points = points.join(" ");
    let _ = writeln!(
        text,
        "<polyline points='{points}' fill='none' stroke='{colour}'/>"
    );
}
