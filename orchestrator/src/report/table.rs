//! Plain tables that line up in a terminal and stay readable in a log.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Returns a table with a head and an underline; the columns in `right` are numbers.
#[must_use]
pub fn table(head: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().copied());
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    table.add_row(widths.iter().map(|width| "─".repeat(*width)));
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Returns `text` on one line and without what a terminal would obey: an agent or a server may have written it.
#[must_use]
pub fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { ' ' } else { c }).collect()
}

/// Returns `text` cut to `length` characters, with an ellipsis where something was cut.
#[must_use]
pub fn shorten(text: &str, length: usize) -> String {
    let one_line = printable(text);
    if one_line.chars().count() <= length {
        return one_line;
    }
    let kept: String = one_line.chars().take(length.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_is_not_controlled_by_what_is_shown() {
        assert_eq!(shorten("a\u{1b}[2Jb\nc\u{202e}d\u{9b}1m", 80), "a [2Jb c d 1m");
        let rows = vec![vec!["\u{1b}]0;x\u{7}".into()]];
        assert!(!table(&["agent"], &[], &rows).contains('\u{1b}'));
    }

    #[test]
    fn numbers_line_up_on_the_right() {
        let rows = vec![vec!["git".into(), "1".into()], vec!["ralph".into(), "100".into()]];
        assert_eq!(
            table(&["server", "calls"], &[1], &rows),
            " server  calls\n ──────  ─────\n git         1\n ralph     100\n"
        );
    }
}
