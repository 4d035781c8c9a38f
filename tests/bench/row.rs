//! A row of the table, from the values of all rounds.

use crate::relay::Form;

/// A row with one number per relay.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    /// For each relay, the median over all rounds of the ratio to the first relay.
    pub ratios: Vec<f64>,
    /// The quartiles of these ratios; what lies between them is the noise.
    pub spreads: Vec<(f64, f64)>,
    /// The goal for the ratio, or for the value.
    pub most_ratio: Option<f64>,
    pub most: Option<f64>,
}

/// The values at a quarter, a half and three quarters.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

/// Rows of rounds: values by round and relay.
pub fn row(form: Form, name: &str, unit: &'static str, rounds: &[Vec<f64>]) -> Row {
    let over = |f: &dyn Fn(&Vec<f64>) -> f64| quartiles(rounds.iter().map(f).collect());
    let ratios: Vec<_> = (0..rounds[0].len())
        .map(|at| over(&|round| round[at] / round[0]))
        .collect();
    Row {
        name: format!("{}{name}", form.prefix()),
        unit,
        values: (0..rounds[0].len())
            .map(|at| over(&|round| round[at])[1])
            .collect(),
        spreads: ratios.iter().map(|[low, _, high]| (*low, *high)).collect(),
        ratios: ratios.iter().map(|[_, median, _]| *median).collect(),
        most_ratio: None,
        most: None,
    }
}
