//! A plot of the workloads as SVG: one row an engine, its geometric mean as a bar and every workload as a dot, on a logarithmic scale.

use std::fmt::Write;

/// One engine: its name and its time over that of the baseline, workload by workload.
pub struct Series {
    pub name: String,
    pub mean: f64,
    pub ratios: Vec<f64>,
    /// Drawn in the accent colour.
    pub ours: bool,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 58.0;
const ROW: f64 = 30.0;

/// The SVG; `note` stands below the plot (machine and date).
pub fn svg(title: &str, note: &str, series: &[Series]) -> String {
    let all = || {
        series
            .iter()
            .flat_map(|one| one.ratios.iter().copied().chain([one.mean]))
            .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
    };
    let least = all().fold(1.0, f64::min).log2().floor();
    let most = all().fold(2.0, f64::max).log2().ceil();
    let scale = (WIDTH - LEFT - RIGHT) / (most - least);
    let x = |ratio: f64| LEFT + (ratio.log2() - least) * scale;
    let height = TOP + ROW * series.len() as f64 + 56.0;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |content: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{content}");
    };
    line(format_args!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"##
    ));
    line(format_args!(
        r##"<rect width="100%" height="100%" fill="#ffffff"/><text x="{LEFT}" y="22" font-size="15" fill="#222222">{}</text>"##,
        escape(title)
    ));
    line(format_args!(
        r##"<text x="{LEFT}" y="40" fill="#666666">bar: geometric mean; dots: single workloads; logarithmic, left is faster</text>"##
    ));
    let bottom = TOP + ROW * series.len() as f64;
    for power in least as i32..=most as i32 {
        let ratio = f64::from(power).exp2();
        let place = x(ratio);
        line(format_args!(
            r##"<line x1="{place:.1}" y1="{TOP}" x2="{place:.1}" y2="{bottom:.1}" stroke="#dddddd"/><text x="{place:.1}" y="{:.1}" text-anchor="middle" fill="#666666">{ratio}x</text>"##,
            bottom + 16.0
        ));
    }
    for (row, one) in series.iter().enumerate() {
        let middle = TOP + ROW * (row as f64 + 0.5);
        let (fill, dot) = if one.ours {
            ("#d9730d", "#7a3e00")
        } else {
            ("#9db8d2", "#30506e")
        };
        line(format_args!(
            r##"<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#222222">{}</text>"##,
            LEFT - 8.0,
            middle + 4.0,
            escape(&one.name)
        ));
        let end = x(one.mean).max(LEFT + 1.0);
        line(format_args!(
            r##"<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="18" fill="{fill}"/>"##,
            middle - 9.0,
            end - LEFT
        ));
        for ratio in one
            .ratios
            .iter()
            .filter(|ratio| ratio.is_finite() && **ratio > 0.0)
        {
            line(format_args!(
                r##"<circle cx="{:.1}" cy="{middle:.1}" r="2" fill="{dot}" fill-opacity="0.6"/>"##,
                x(*ratio)
            ));
        }
        line(format_args!(
            r##"<text x="{:.1}" y="{:.1}" fill="#222222">{:.2}</text>"##,
            WIDTH - RIGHT + 8.0,
            middle + 4.0,
            one.mean
        ));
    }
    line(format_args!(
        r##"<text x="{LEFT}" y="{:.1}" fill="#666666">{}</text>"##,
        bottom + 38.0,
        escape(note)
    ));
    text.push_str("</svg>\n");
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_a_dot_and_names_are_escaped() {
        let series = [Series {
            name: "a<b".to_owned(),
            mean: 2.0,
            ratios: vec![1.0, 4.0, f64::NAN],
            ours: true,
        }];
        let text = svg("t", "n & m", &series);
        assert_eq!(text.matches("<circle").count(), 2);
        assert!(text.contains("a&lt;b") && text.contains("n &amp; m"));
    }
}
