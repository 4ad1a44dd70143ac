//! Numbers for a person: tables that are Markdown and line up on a terminal too.

use owo_colors::{OwoColorize, Style};

/// A text and how it is shown.
pub(crate) type Cell = (String, Style);

/// A text as it is.
pub(crate) fn plain(text: &str) -> Cell {
    (text.to_owned(), Style::new())
}

/// A table in Markdown, aligned. The columns are numbers but for the first, and the last where it `ends_in_text`.
pub(crate) fn table(header: &[&str], ends_in_text: bool, rows: impl Iterator<Item = Vec<Cell>>) -> String {
    let header = header.iter().map(|text| plain(text)).collect();
    let rows: Vec<Vec<Cell>> = [header].into_iter().chain(rows).collect();
    let columns = rows[0].len();
    let is_text = |column| column == 0 || ends_in_text && column == columns - 1;
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or(0).max(2))
        .collect();
    let line = |row: &[Cell]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, ((text, style), &width))| {
            let text = if is_text(column) { format!("{text:<width$}") } else { format!("{text:>width$}") };
            format!(" {} |", text.style(*style))
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.iter().enumerate().map(|(column, width)| {
        if is_text(column) { format!("{}|", "-".repeat(width + 2)) } else { format!("{}:|", "-".repeat(width + 1)) }
    });
    let rule = format!("|{}\n", rule.collect::<String>());
    let mut lines = rows.iter().map(|row| line(row));
    lines.next().into_iter().chain([rule]).chain(lines).collect()
}

/// A time in the unit that suits it.
pub(crate) fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{} ms", figure(seconds * 1_000.0)) } else { format!("{} s", figure(seconds)) }
}

/// A number with as many digits as a person wants to see.
pub(crate) fn figure(number: f64) -> String {
    if number < 10.0 {
        // A tenth counts, and in small numbers more than that; a zero at the end does not.
        let digits = if number < 1.0 { 4 } else { 1 };
        let text = format!("{number:.digits$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{number:.0}");
    let head = digits.len() % 3;
    let (head, rest) = digits.split_at(if head == 0 { 3 } else { head });
    let groups = rest.as_bytes().chunks(3).map(|group| format!(",{}", String::from_utf8_lossy(group)));
    head.to_owned() + &groups.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let figures = [0.0001, 0.05, 0.5, 1.0, 3.75, 9.96, 33.3, 300.0, 1_666.7, 10_000.0, 1_000_000.0].map(figure);
        let expected = ["0.0001", "0.05", "0.5", "1", "3.8", "10", "33", "300", "1,667", "10,000", "1,000,000"];
        assert_eq!(figures.each_ref().map(String::as_str), expected);
        assert_eq!([time(0.002), time(0.2), time(3_600.0)], ["2 ms", "200 ms", "3,600 s"]);
    }
}
