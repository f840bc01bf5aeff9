//! Pictures of results, as SVG that reads well on light and on dark ground: bars in groups, one panel below the other.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use common::Family;

use super::{Row, way::V6_MARK};

/// Draws what there is to draw of a bench's rows into the project's documents. Says where, if anything was drawn.
pub fn draw(bench: &str, rows: &[Row]) -> Result<Option<String>> {
    let panels = match bench {
        "datapath" => vec![Panel::of_ways(rows, Family::V4), Panel::of_ways(rows, Family::V6)],
        "path" | "same-node" => vec![
            Panel::of_sites(rows, "round trip", "Round trip of one byte, microseconds (logarithmic)", Scale::Log, 1.0),
            Panel::of_sites(
                rows,
                "connect rate",
                "Connections per second, one after the other, thousands",
                Scale::Linear,
                1e-3,
            ),
            Panel::of_sites(rows, "one stream", "One stream, gigabytes per second", Scale::Linear, 1e-9),
        ],
        _ => return Ok(None),
    };
    let name = format!("docs/bench-{bench}.svg");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&name);
    fs::write(&path, picture(&panels)).with_context(|| format!("write {}", path.display()))?;
    Ok(Some(name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

struct Panel {
    title: String,
    scale: Scale,
    /// Names of the bars of each group.
    series: Vec<String>,
    groups: Vec<Group>,
}

struct Group {
    name: String,
    /// One for each of the series, where it was measured.
    values: Vec<Option<f64>>,
    /// What the values are meant to stay below.
    limit: Option<f64>,
}

impl Panel {
    /// The ways of a packet, with a bar for each shape of policy; minima.
    fn of_ways(rows: &[Row], family: Family) -> Self {
        let measured: Vec<(&str, &str, &Row)> = rows
            .iter()
            .filter(|row| row.unit == "hash")
            .filter_map(|row| {
                let (way, shape) = row.case.split_once("; ")?;
                match (way.strip_prefix(V6_MARK), family) {
                    (Some(way), Family::V6) => Some((way, shape, row)),
                    (None, Family::V4) => Some((way, shape, row)),
                    (Some(_), Family::V4) | (None, Family::V6) => None,
                }
            })
            .collect();
        let series = distinct(measured.iter().map(|(_, shape, row)| shape_name(shape, row.rules)));
        let groups = distinct(measured.iter().map(|(way, ..)| (*way).to_owned())).into_iter().map(|name| {
            let of_way = || measured.iter().filter(|(way, ..)| *way == name);
            let values = series.iter().map(|wanted| {
                of_way().find(|(_, shape, row)| shape_name(shape, row.rules) == *wanted).map(|(_, _, row)| row.min)
            });
            let values = values.collect();
            let limit = of_way().find_map(|(_, _, row)| row.target.as_ref().map(|target| target.limit));
            Group { name, values, limit }
        });
        let groups = groups.collect();
        let title =
            format!("{}: cost of a packet in hash look-ups, minima; the mark is what it may cost", family_name(family));
        Self { title, scale: Scale::Linear, series, groups }
    }

    /// Numbers of rules, with a bar for each way to filter; medians.
    fn of_sites(rows: &[Row], metric: &str, title: &str, scale: Scale, factor: f64) -> Self {
        let measured: Vec<(&str, &Row)> = rows
            .iter()
            .filter_map(|row| {
                row.case.split_once(", ").filter(|(name, _)| *name == metric).map(|(_, site)| (site, row))
            })
            .collect();
        let series = distinct(measured.iter().map(|(site, _)| (*site).to_owned()));
        let groups = distinct(measured.iter().map(|(_, row)| row.rules)).into_iter().map(|rules| {
            let of_site = |wanted: &String| measured.iter().find(|(site, row)| site == wanted && row.rules == rules);
            let values = series.iter().map(|site| of_site(site).map(|(_, row)| row.median * factor)).collect();
            Group { name: format!("{} rules", thousands(rules)), values, limit: None }
        });
        let groups = groups.collect();
        Self { title: title.to_owned(), scale, series, groups }
    }

    fn height(&self) -> f64 {
        let bars: usize = self.groups.iter().map(|group| group.values.len()).sum();
        HEAD + bars as f64 * BAR + self.groups.len() as f64 * GAP + FOOT
    }

    fn greatest(&self) -> f64 {
        let values = self.groups.iter().flat_map(|group| group.values.iter().flatten().copied().chain(group.limit));
        values.fold(0.0, f64::max)
    }

    /// Round values up to the greatest.
    fn ticks(&self) -> Vec<f64> {
        let greatest = self.greatest();
        let candidates: Vec<f64> = match self.scale {
            Scale::Log => [1.0, 10.0, 100.0, 1_000.0, 10_000.0].into(),
            Scale::Linear => {
                let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
                let step = steps.into_iter().find(|step| greatest / step <= 8.0).unwrap_or(100.0);
                (0..=8_u8).map(|i| f64::from(i) * step).collect()
            }
        };
        candidates.into_iter().filter(|tick| *tick <= greatest).collect()
    }

    /// Where a value ends, of a width of 1.
    fn share(&self, value: f64) -> f64 {
        let greatest = self.greatest();
        match self.scale {
            Scale::Linear => value / greatest,
            // The axis begins at 1.
            Scale::Log => value.max(1.0).ln() / greatest.max(2.0).ln(),
        }
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn shape_name(shape: &str, rules: usize) -> String {
    if rules == 1 { shape.to_owned() } else { format!("{} rules, {shape}", thousands(rules)) }
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 250.0;
const LENGTH: f64 = 530.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;
/// Above the bars of a panel: its title and what the colours mean.
const HEAD: f64 = 78.0;
/// Below them: the scale.
const FOOT: f64 = 34.0;
/// Told apart by those who see few colours, and legible on white and on black.
const COLOURS: [&str; 5] = ["#0a9396", "#8d99ae", "#e76f51", "#bc6c9c", "#e9a820"];

const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}\
    .value{font-size:11px;paint-order:stroke;stroke:#ffffff;stroke-width:3px}\
    .ground{fill:#ffffff}.axis{stroke:#8b949e}.grid{stroke:#8b949e;stroke-opacity:.3}.limit{stroke:#1f2328;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.value{stroke:#0d1117}.ground{fill:#0d1117}.limit{stroke:#e6edf3}}\
    </style>";

fn picture(panels: &[Panel]) -> String {
    let height: f64 = panels.iter().map(Panel::height).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         {STYLE}\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    );
    let mut top = 0.0;
    for panel in panels {
        draw_panel(&mut svg, panel, top).expect("a string takes what is written to it");
        top += panel.height();
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel, top: f64) -> std::fmt::Result {
    writeln!(svg, "<text class=\"title\" x=\"20\" y=\"{}\">{}</text>", top + 26.0, panel.title)?;
    draw_legend(svg, panel, top + 48.0)?;
    draw_axis(svg, panel, top + HEAD, top + panel.height() - FOOT)?;
    let mut labels = String::new();
    let mut y = top + HEAD;
    for group in &panel.groups {
        y += GAP / 2.0;
        let (first, middle) = (y, y + group.values.len() as f64 * BAR / 2.0 + 4.0);
        writeln!(svg, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>", LEFT - 10.0, group.name)?;
        for (value, colour) in group.values.iter().zip(COLOURS.iter().cycle()) {
            if let Some(value) = value {
                draw_bar(svg, &mut labels, panel.share(*value) * LENGTH, y, *value, colour)?;
            }
            y += BAR;
        }
        if let Some(limit) = group.limit {
            let x = LEFT + panel.share(limit) * LENGTH;
            writeln!(svg, "<line class=\"limit\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{first}\" y2=\"{y}\"/>")?;
        }
        y += GAP / 2.0;
    }
    svg.push_str(&labels);
    Ok(())
}

/// The line where bars begin, and fainter ones for round values, which stand below.
fn draw_axis(svg: &mut String, panel: &Panel, top: f64, bottom: f64) -> std::fmt::Result {
    for tick in panel.ticks() {
        let x = LEFT + panel.share(tick) * LENGTH;
        writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>\
             <text class=\"value\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            (tick * 10.0).round() / 10.0
        )?;
    }
    writeln!(svg, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{top}\" y2=\"{bottom}\"/>")
}

fn draw_bar(svg: &mut String, labels: &mut String, length: f64, y: f64, value: f64, colour: &str) -> std::fmt::Result {
    let (height, baseline, end) = (BAR - 2.0, y + BAR - 4.0, LEFT + length + 5.0);
    let digits = match value {
        small if small < 2.0 => 2,
        middling if middling < 100.0 => 1,
        _ => 0,
    };
    writeln!(svg, "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{colour}\"/>")?;
    writeln!(labels, "<text class=\"value\" x=\"{end:.1}\" y=\"{baseline}\">{value:.digits$}</text>")
}

fn draw_legend(svg: &mut String, panel: &Panel, y: f64) -> std::fmt::Result {
    let mut x = 20.0;
    let mut y = y;
    for (name, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
        let width = 34.0 + name.len() as f64 * 7.0;
        if x + width > WIDTH {
            (x, y) = (20.0, y + 19.0);
        }
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 11.0,
            x + 18.0
        )?;
        x += width;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, rules: usize, median: f64) -> Row {
        Row::of("path", case, rules, "us", &[median])
    }

    #[test]
    fn a_picture_names_every_group_and_every_series() {
        let rows = [
            row("round trip, ours", 0, 11.0),
            row("round trip, plain", 0, 12.0),
            row("round trip, ours", 10_000, 11.0),
        ];
        let svg = picture(&[Panel::of_sites(&rows, "round trip", "Round trip", Scale::Log, 1.0)]);
        for text in [">ours<", ">plain<", ">0 rules<", ">10,000 rules<", ">Round trip<"] {
            assert!(svg.contains(text), "{text} is not in\n{svg}");
        }
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_a_logarithm_begins_at_one() {
        let rows = [row("round trip, ours", 0, 1.0), row("round trip, plain", 0, 100.0)];
        let panel = Panel::of_sites(&rows, "round trip", "", Scale::Log, 1.0);
        assert_eq!((panel.share(1.0), panel.share(10.0), panel.share(100.0)), (0.0, 0.5, 1.0));
    }
}
