//! Figures and their goals.

use serde_json::{Value, json};
use xtask_support::cargo::Profile;

/// The profile of the measured fdwatch: that of packages.
pub(super) const PROFILE: Profile = Profile::Dist;

/// Prints whether a value reaches its goal, a maximum, and returns both.
pub(super) fn goal(what: &str, value: f64, max: f64, unit: &str) -> Value {
    let is_reached = value <= max;
    let verdict = if is_reached { "reached" } else { "MISSED" };
    println!("goal {verdict}: {what}: {value:.2} of at most {max:.2} {unit}");
    json!({ "goal": what, "value": value, "max": max, "unit": unit, "reached": is_reached })
}

/// Returns the median; NaN without values.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.is_empty() {
        f64::NAN
    } else if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_no_values() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
