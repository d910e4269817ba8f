//! Grouped bar charts as SVG that can be read on light and on dark pages.

use std::fmt::Write as _;

use crate::stats::{Spread, figure};

/// The width of every chart, in pixels as all measures here.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 56.0;
const PLOT_HEIGHT: f64 = 240.0;
const HEAD: f64 = 56.0;
const FOOT: f64 = 40.0;

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Whole decades.
    Log,
    /// From nothing to a hundred.
    Percent,
}

/// One chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// What it shows, with the unit.
    pub(crate) title: String,
    /// How values become heights.
    pub(crate) scale: Scale,
    /// Name and colour of the bars of each group.
    pub(crate) series: Vec<(String, &'static str)>,
    /// Name of each group and its bars, one per series.
    pub(crate) groups: Vec<(String, Vec<Option<Spread>>)>,
}

/// Draws the charts one below the other.
pub(crate) fn draw(charts: &[Chart]) -> String {
    let each = HEAD + PLOT_HEIGHT + FOOT;
    let height: f64 = charts.iter().map(|_| each).sum();
    let mut svg = String::new();
    put(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n\
             <style>text{{fill:#3b4048}}.grid{{stroke:#8b929c;stroke-opacity:.35}}\
             .spread{{stroke:#3b4048}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ccd2da}}.spread{{stroke:#ccd2da}}}}</style>"
        ),
    );
    let mut top = 0.0;
    for chart in charts {
        chart.draw(&mut svg, top);
        top += each;
    }
    svg.push_str("</svg>\n");
    svg
}

impl Chart {
    fn draw(&self, svg: &mut String, top: f64) {
        put(
            svg,
            format_args!(
                "<g transform=\"translate(0 {top})\">\n\
                 <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\">{}</text>",
                escaped(&self.title)
            ),
        );
        self.legend(svg);
        let axis = self.axis();
        for tick in axis.ticks() {
            let y = HEAD + axis.y(tick);
            put(
                svg,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    y + 4.0,
                    axis.label(tick)
                ),
            );
        }
        let group_width = (WIDTH - LEFT) / count(self.groups.len()).max(1.0);
        let bar_width = (group_width * 0.9 / count(self.series.len()).max(1.0)).min(44.0);
        let mut left = LEFT;
        for (name, bars) in &self.groups {
            let middle = left + group_width / 2.0;
            let mut x = middle - bar_width * count(bars.len()) / 2.0;
            for (bar, (series, colour)) in bars.iter().zip(&self.series) {
                if let Some(spread) = bar {
                    let title = format!("{name}, {series}: {}", spread.text());
                    self.bar(svg, &axis, (x, bar_width), (spread, &title, colour));
                }
                x += bar_width;
            }
            put(
                svg,
                format_args!(
                    "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    HEAD + PLOT_HEIGHT + 20.0,
                    escaped(name)
                ),
            );
            left += group_width;
        }
        svg.push_str("</g>\n");
    }

    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (name, colour) in &self.series {
            put(
                svg,
                format_args!(
                    "<rect x=\"{x:.1}\" y=\"30\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                     <text x=\"{:.1}\" y=\"40\">{}</text>",
                    x + 16.0,
                    escaped(name)
                ),
            );
            x += 36.0 + 7.0 * count(name.len());
        }
    }

    /// A bar with its figure above and its spread as a thin line.
    fn bar(
        &self,
        svg: &mut String,
        axis: &Axis,
        (x, width): (f64, f64),
        (spread, title, colour): (&Spread, &str, &str),
    ) {
        let y = axis.y(spread.median);
        let (middle, shown) = (x + width / 2.0, escaped(&figure(spread.median)));
        let (low, high) = (axis.y(spread.min), axis.y(spread.max));
        put(
            svg,
            format_args!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
                 <title>{}</title></rect>\
                 <path class=\"spread\" d=\"M{middle:.1} {:.1}V{:.1}\"/>\
                 <text x=\"{middle:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"middle\">{shown}{}</text>",
                x + 1.0,
                HEAD + y,
                width - 2.0,
                PLOT_HEIGHT - y,
                escaped(title),
                HEAD + low,
                HEAD + high,
                HEAD + high.min(y) - 4.0,
                if self.scale == Scale::Percent {
                    "%"
                } else {
                    ""
                },
            ),
        );
    }

    /// The decades that hold every value, or the percent.
    fn axis(&self) -> Axis {
        let values = self
            .groups
            .iter()
            .flat_map(|(_, bars)| bars.iter().flatten());
        let positive = values
            .flat_map(|spread| [spread.min, spread.max])
            .filter(|&value| value > 0.0);
        let (low, high) = positive.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        match self.scale {
            Scale::Log if low <= high => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Axis::Log {
                    low,
                    high: high.max(low + 1.0),
                }
            }
            Scale::Log => Axis::Log {
                low: 0.0,
                high: 1.0,
            },
            Scale::Percent => Axis::Percent,
        }
    }
}

enum Axis {
    Log { low: f64, high: f64 },
    Percent,
}

impl Axis {
    /// How far below the plot's top a value lies.
    fn y(&self, value: f64) -> f64 {
        let share = match *self {
            Self::Log { low, high } => (value.max(f64::MIN_POSITIVE).log10() - low) / (high - low),
            Self::Percent => value / 100.0,
        };
        PLOT_HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }

    fn ticks(&self) -> Vec<f64> {
        match *self {
            Self::Log { low, high } => {
                let mut ticks = Vec::new();
                let mut decade = low;
                while decade <= high {
                    ticks.push(10_f64.powf(decade));
                    decade += 1.0;
                }
                ticks
            }
            Self::Percent => vec![0.0, 25.0, 50.0, 75.0, 100.0],
        }
    }

    fn label(&self, tick: f64) -> String {
        match self {
            Self::Log { .. } if tick < 1.0 => format!("{tick}"),
            Self::Log { .. } => format!("{tick:.0}"),
            Self::Percent => format!("{tick:.0} %"),
        }
    }
}

fn count(number: usize) -> f64 {
    number as f64
}

/// Appends a line; writing to a string cannot fail.
fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    if writeln!(svg, "{line}").is_err() {
        svg.push('\n');
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
