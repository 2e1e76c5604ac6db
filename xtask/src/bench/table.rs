//! The figures, as a table for people and as JSON.

use serde_json::json;

/// One figure. Less is better in all of them.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) what: String,
    /// The figure, in `unit`.
    pub(super) now: f64,
    pub(super) unit: &'static str,
    pub(super) goal: Option<f64>,
    /// What convoy 0.5 takes: measured beside it, or, where its daemon was needed, recorded on another
    /// machine with two cores.
    pub(super) before: Option<f64>,
}

impl Row {
    /// A figure without anything to compare it with.
    pub(super) fn new(what: impl Into<String>, now: f64, unit: &'static str) -> Self {
        Self { what: what.into(), now, unit, goal: None, before: None }
    }

    pub(super) fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    pub(super) fn before(self, before: f64) -> Self {
        Self { before: Some(before), ..self }
    }

    pub(super) fn missed(&self) -> bool {
        self.goal.is_some_and(|goal| self.now > goal)
    }
}

pub(super) fn text(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    let mut text = format!("{:width$}  {:>10}  {:>10}  {:>10}\n", "", "now", "goal", "0.5");
    for row in rows {
        let optional = |figure: Option<f64>| figure.map_or_else(String::new, number);
        let verdict = match row.goal {
            Some(_) if row.missed() => "missed",
            Some(_) => "met",
            None => "",
        };
        text.push_str(&format!(
            "{:width$}  {:>10}  {:>10}  {:>10}  {:<4} {verdict}\n",
            row.what,
            number(row.now),
            optional(row.goal),
            optional(row.before),
            row.unit,
        ));
    }
    text
}

pub(super) fn json(rows: &[Row]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| json!({"what": row.what, "now": row.now, "unit": row.unit, "goal": row.goal, "before": row.before}))
        .collect();
    format!("{:#}\n", json!(rows))
}

fn number(figure: f64) -> String {
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}
