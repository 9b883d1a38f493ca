//! Tables of text: columns as wide as their widest cell.

use std::fmt;

/// Alignment of the cells of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// Rows of cells that print as aligned columns, two spaces apart, without trailing blanks.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    align: Vec<Align>,
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Creates an empty table; a column past the end of `align` is aligned left.
    pub(crate) fn new(align: &[Align]) -> Self {
        Self { align: align.to_vec(), indent: 0, rows: Vec::new() }
    }

    /// Indents all rows by `by` columns.
    pub(crate) fn indented(mut self, by: usize) -> Self {
        self.indent = by;
        self
    }

    /// Adds a row; it may have fewer cells than others.
    pub(crate) fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                match self.align.get(column) {
                    Some(Align::Right) => line += &format!("{gap}{cell:>width$}"),
                    _ => line += &format!("{gap}{cell:<width$}"),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell_and_end_trimmed() {
        let mut table = Columns::new(&[Align::Left, Align::Right]).indented(1);
        table.row(["NAME", "SIZE", ""]);
        table.row(["a-long-name", "4G", "note"]);
        table.row(["only"]);
        assert_eq!(table.to_string(), " NAME         SIZE\n a-long-name    4G  note\n only\n");
    }
}
