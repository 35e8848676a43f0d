//! Tables of medians, ratios and geometric means, as text, markdown or JSON.

use crate::arguments::Format;
use crate::clock::geometric_mean;
use serde_json::json;

/// What one engine did on one workload.
pub enum Cell {
    /// Milliseconds over the rounds.
    Median { median: f64, least: f64, most: f64 },
    /// Why there is no figure.
    Missing(String),
}

impl Cell {
    fn median(&self) -> Option<f64> {
        match self {
            Cell::Median { median, .. } => Some(*median),
            Cell::Missing(_) => None,
        }
    }
}

/// The result of `speed`.
pub struct Report {
    /// Name and version.
    pub engines: Vec<(String, String)>,
    /// Name and kind.
    pub workloads: Vec<(String, String)>,
    pub rounds: usize,
    /// One row a workload, one cell an engine.
    pub cells: Vec<Vec<Cell>>,
}

/// Engines that the others are compared with, if they take part.
const BASELINES: [&str; 2] = ["cranelift", "wasmi"];

/// A table: a heading, the column names, rows of cells.
pub struct Table {
    pub title: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Report {
    pub fn format(&self, format: Format) -> String {
        match format {
            Format::Json => self.json(),
            Format::Markdown => {
                self.grids().iter().map(Table::markdown).collect::<String>() + &self.notes()
            }
            Format::Text => {
                self.grids().iter().map(Table::text).collect::<String>() + &self.notes()
            }
        }
    }

    pub fn place(&self, name: &str) -> Option<usize> {
        self.engines.iter().position(|(engine, _)| engine == name)
    }

    /// Time of an engine over that of a baseline on one workload.
    pub fn ratio(&self, row: usize, engine: usize, baseline: usize) -> Option<f64> {
        Some(self.cells[row][engine].median()? / self.cells[row][baseline].median()?)
    }

    /// Geometric mean of the ratios over the rows that `keep` lets through and on which both have a figure, and their number.
    pub fn mean(
        &self,
        engine: usize,
        baseline: usize,
        keep: impl Fn(usize) -> bool,
    ) -> Option<(f64, usize)> {
        let ratios: Vec<f64> = (0..self.cells.len())
            .filter(|row| keep(*row))
            .filter_map(|row| self.ratio(row, engine, baseline))
            .collect();
        let count = ratios.len();
        geometric_mean(ratios).map(|mean| (mean, count))
    }

    /// Whether every engine has a figure.
    fn complete(&self, row: usize) -> bool {
        self.cells[row].iter().all(|cell| cell.median().is_some())
    }

    fn grids(&self) -> Vec<Table> {
        let names = || self.engines.iter().map(|(name, _)| name.clone());
        let head = |first: &str| {
            std::iter::once(first.to_owned())
                .chain(names())
                .collect::<Vec<_>>()
        };
        let mut grids = vec![Table {
            title: format!("Milliseconds of CPU time, median of {} rounds", self.rounds),
            head: head("workload"),
            rows: self.rows(|row, engine| self.cells[row][engine].median(), 2),
        }];
        for baseline in BASELINES.iter().filter_map(|name| self.place(name)) {
            let name = &self.engines[baseline].0;
            let mut rows = self.rows(|row, engine| self.ratio(row, engine, baseline), 2);
            let mut summary = |label: &str, keep: &dyn Fn(usize) -> bool| {
                let cells =
                    (0..self.engines.len()).map(|engine| match self.mean(engine, baseline, keep) {
                        Some((mean, count)) => format!("{mean:.2} ({count})"),
                        None => "n/a".to_owned(),
                    });
                rows.push(std::iter::once(label.to_owned()).chain(cells).collect());
            };
            summary("geomean (of)", &|_| true);
            summary("geomean, all run", &|row| self.complete(row));
            grids.push(Table {
                title: format!("Time relative to {name} (less is faster)"),
                head: head("workload"),
                rows,
            });
        }
        grids.push(self.summary());
        grids
    }

    fn rows(&self, value: impl Fn(usize, usize) -> Option<f64>, digits: usize) -> Vec<Vec<String>> {
        let cell =
            |row, engine| value(row, engine).map_or("n/a".to_owned(), |v| format!("{v:.digits$}"));
        let row = |row: usize| {
            std::iter::once(self.workloads[row].0.clone())
                .chain((0..self.engines.len()).map(move |engine| cell(row, engine)))
                .collect()
        };
        (0..self.cells.len()).map(row).collect()
    }

    /// The figures that the project promises.
    pub fn summary(&self) -> Table {
        let mut rows = Vec::new();
        let mut row = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
        if let (Some(ours), Some(wasmi)) = (self.place("dynlink"), self.place("wasmi")) {
            if let Some((mean, count)) = self.mean(wasmi, ours, |_| true) {
                row(
                    "faster than wasmi, geometric mean",
                    format!("{mean:.2}x over {count} workloads"),
                );
            }
            let slower: Vec<String> = (0..self.cells.len())
                .filter_map(|row| Some((row, self.ratio(row, ours, wasmi)?)))
                .filter(|(_, ratio)| *ratio > 1.0)
                .map(|(row, ratio)| format!("{} {ratio:.2}", self.workloads[row].0))
                .collect();
            row(
                "workloads slower than wasmi",
                if slower.is_empty() {
                    "none".to_owned()
                } else {
                    slower.join(", ")
                },
            );
        }
        if let (Some(ours), Some(cranelift)) = (self.place("dynlink"), self.place("cranelift")) {
            if let Some((mean, _)) = self.mean(ours, cranelift, |_| true) {
                row(
                    "time relative to Cranelift, geometric mean",
                    format!("{mean:.2}"),
                );
            }
        }
        let line = |name: &str| {
            self.workloads
                .iter()
                .position(|(workload, _)| workload == name)
        };
        if let (Some(pair), Some(one)) = (line("dlpair"), line("dlmono")) {
            let cells = (0..self.engines.len()).filter_map(|engine| {
                let ratio =
                    self.cells[pair][engine].median()? / self.cells[one][engine].median()?;
                Some(format!("{} {ratio:.2}", self.engines[engine].0))
            });
            row(
                "main + side over one module (dlpair / dlmono)",
                cells.collect::<Vec<_>>().join(", "),
            );
        }
        Table {
            title: "Summary".to_owned(),
            head: vec!["what".to_owned(), "figure".to_owned()],
            rows,
        }
    }

    /// Versions, and why a cell is n/a.
    pub fn notes(&self) -> String {
        let mut text = String::from("\nEngines: ");
        let versions: Vec<String> = self
            .engines
            .iter()
            .map(|(name, version)| format!("{name} = {version}"))
            .collect();
        text.push_str(&versions.join(", "));
        text.push('\n');
        for (row, cells) in self.cells.iter().enumerate() {
            for (engine, cell) in cells.iter().enumerate() {
                if let Cell::Missing(reason) = cell {
                    let reason = reason.lines().next().unwrap_or_default();
                    text.push_str(&format!(
                        "n/a: {} on {}: {reason}\n",
                        self.engines[engine].0, self.workloads[row].0
                    ));
                }
            }
        }
        text
    }

    fn json(&self) -> String {
        let cell = |cell: &Cell| match cell {
            Cell::Median {
                median,
                least,
                most,
            } => json!({ "median_ms": median, "least_ms": least, "most_ms": most }),
            Cell::Missing(reason) => json!({ "reason": reason }),
        };
        let rows: Vec<_> = self
            .workloads
            .iter()
            .zip(&self.cells)
            .map(|((name, kind), cells)| {
                let cells: serde_json::Map<String, serde_json::Value> = self
                    .engines
                    .iter()
                    .zip(cells)
                    .map(|((engine, _), c)| (engine.clone(), cell(c)))
                    .collect();
                json!({ "workload": name, "kind": kind, "engines": cells })
            })
            .collect();
        let engines: Vec<_> = self
            .engines
            .iter()
            .map(|(name, version)| json!({ "name": name, "version": version }))
            .collect();
        let value = json!({ "rounds": self.rounds, "engines": engines, "workloads": rows });
        serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
    }
}

/// A table of the other subcommands.
pub fn table(format: Format, grid: &Table) -> String {
    match format {
        Format::Text => grid.text(),
        Format::Markdown => grid.markdown(),
        Format::Json => {
            let rows: Vec<serde_json::Map<String, serde_json::Value>> = grid
                .rows
                .iter()
                .map(|row| {
                    grid.head
                        .iter()
                        .cloned()
                        .zip(row.iter().map(|cell| json!(cell)))
                        .collect()
                })
                .collect();
            serde_json::to_string_pretty(&json!({ "title": grid.title, "rows": rows }))
                .unwrap_or_default()
                + "\n"
        }
    }
}

impl Table {
    fn text(&self) -> String {
        let columns = self.head.len();
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = format!("\n{}\n\n", self.title);
        for line in lines() {
            for (column, cell) in line.iter().enumerate() {
                let width = widths[column];
                // The first column and sentences are read from the left, figures compared at the right.
                if column == 0 || columns == 2 {
                    text.push_str(&format!("{cell:<width$}  "));
                } else {
                    text.push_str(&format!("{cell:>width$}  "));
                }
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<String> = (0..self.head.len())
            .map(|i| if i == 0 { "---" } else { "---:" }.to_owned())
            .collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!(
            "\n### {}\n\n{}{}{rows}",
            self.title,
            line(&self.head),
            line(&rule)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let cell = |median| Cell::Median {
            median,
            least: median,
            most: median,
        };
        Report {
            engines: ["dynlink", "cranelift", "wasmi"]
                .map(|name| (name.to_owned(), "1".to_owned()))
                .into(),
            workloads: ["dlmono", "dlpair"]
                .map(|name| (name.to_owned(), "kind".to_owned()))
                .into(),
            rounds: 1,
            cells: vec![
                vec![cell(40.0), cell(10.0), cell(80.0)],
                vec![
                    cell(44.0),
                    cell(11.0),
                    Cell::Missing("cannot link".to_owned()),
                ],
            ],
        }
    }

    #[test]
    fn a_mean_counts_only_workloads_that_both_engines_ran() {
        let (mean, count) = report().mean(2, 0, |_| true).unwrap();
        assert_eq!((mean, count), (2.0, 1));
        let (mean, count) = report().mean(0, 1, |_| true).unwrap();
        assert!((mean - 4.0).abs() < 1e-9 && count == 2);
    }

    #[test]
    fn a_missing_cell_is_shown_with_its_reason() {
        let text = report().format(Format::Text);
        assert!(text.contains("n/a: wasmi on dlpair: cannot link"), "{text}");
        assert!(text.contains("dynlink 1.10, cranelift 1.10"), "{text}");
    }

    #[test]
    fn a_workload_that_is_slower_than_wasmi_is_named() {
        let mut report = report();
        report.cells[0][2] = Cell::Median {
            median: 20.0,
            least: 20.0,
            most: 20.0,
        };
        assert!(report.format(Format::Text).contains("dlmono 2.00"));
    }
}
