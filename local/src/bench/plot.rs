//! The report as a picture.

use super::Report;
use crate::Error;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::io;

/// The size of the plot, in pixels.
const WIDTH: u32 = 900;
const BAR: u32 = 56;

const FONT: (&str, u32) = ("sans-serif", 13);
const INIT: RGBColor = RGBColor(0, 112, 136);
const FIRST: RGBColor = RGBColor(200, 96, 0);

/// The CPU of a cold start, a bar for each function: init, and the first request.
pub(super) fn cold_cpu(report: &Report) -> Result<String, Error> {
    let bars = u32::try_from(report.functions.len()).unwrap_or(u32::MAX);
    let mut svg = String::new();
    draw(report, &SVGBackend::with_string(&mut svg, (WIDTH, 130 + BAR * bars)).into_drawing_area())
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(svg)
}

fn draw<D: DrawingBackend>(
    report: &Report,
    area: &DrawingArea<D, Shift>,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    area.fill(&WHITE)?;
    let functions = &report.functions;
    let floor = functions.first().map_or(0.0, |floor| floor.cold_cpu.median);
    let most = functions.iter().map(|measured| measured.cold_cpu.upper).fold(2.0 * floor, f64::max) * 1.25;
    let count = f64::from(u32::try_from(functions.len()).unwrap_or(u32::MAX));
    let caption = format!("CPU from a process's start to its first answer, {}, {}", report.machine, report.date);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, FONT.into_font().resize(15.0))
        .margin(20)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..most, count..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(FONT)
        .x_desc("milliseconds of CPU; dashed: the function that does nothing, and twice that")
        .x_label_formatter(&|millis| format!("{millis:.1}"))
        .draw()?;
    for times in [1.0, 2.0] {
        let line = [(times * floor, 0.0), (times * floor, count)];
        chart.draw_series(DashedLineSeries::new(line, 6, 5, BLACK.mix(0.5).stroke_width(1)))?;
    }
    let mut top = 0.0;
    for measured in functions {
        let [from, to] = [top + 0.2, top + 0.8];
        let (all, first) = (measured.cold_cpu, measured.first_cpu.median);
        let init = (all.median - first).max(0.0);
        chart.draw_series([
            Rectangle::new([(0.0, from), (init, to)], INIT.filled()),
            Rectangle::new([(init, from), (all.median, to)], FIRST.filled()),
        ])?;
        let middle = top + 0.5;
        let spread = [(all.lower, middle), (all.upper, middle)];
        chart.draw_series([PathElement::new(spread, BLACK.stroke_width(2))])?;
        let ratio = all.of_floor.map(|ratio| format!(", {ratio:.1}x")).unwrap_or_default();
        let (x, y) = chart.backend_coord(&(all.upper.max(all.median), middle));
        let left = FONT.into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(&format!("{:.2} ms{ratio}", all.median), &left, (x + 10, y))?;
        let (x, _) = chart.backend_coord(&(0.0, middle));
        let right = FONT.into_text_style(area).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw_text(&measured.name, &right, (x - 10, y))?;
        top += 1.0;
    }
    let legend = [(INIT, "init"), (FIRST, "the first request")];
    for ((colour, name), y) in legend.into_iter().zip([0, 20]) {
        let (x, top) = (i32::try_from(WIDTH).unwrap_or(i32::MAX) - 160, 50 + y);
        area.draw(&Rectangle::new([(x, top), (x + 12, top + 12)], colour.filled()))?;
        let left = FONT.into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw_text(name, &left, (x + 18, top + 6))?;
    }
    area.present()
}
