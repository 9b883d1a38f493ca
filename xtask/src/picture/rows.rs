//! A picture: one row for each crate or module, and the rows below that it uses.

use std::collections::BTreeSet;

/// A row of a picture.
pub(crate) struct Row {
    /// The group at the margin. Rows of one group follow each other.
    pub group: String,
    /// The crate's or module's name.
    pub name: String,
    /// What it is, in a few words.
    pub summary: String,
    /// The rows that it uses, by index.
    pub uses: BTreeSet<usize>,
}

/// Draws the rows from the first to the last, without the uses that follow from others: a row that
/// uses `b`, which uses `c`, is shown as using `b`.
pub(crate) fn draw(rows: Vec<Row>) -> String {
    let uses: Vec<String> = (0..rows.len())
        .map(|row| {
            let shown = shown(&rows, row);
            let names: Vec<&str> = shown.iter().map(|used| &*rows[*used].name).collect();
            if names.is_empty() { String::new() } else { format!("-> {}", names.join(", ")) }
        })
        .collect();
    let width = |texts: Vec<&str>| texts.iter().map(|text| text.len()).max().unwrap_or(0);
    let groups = width(rows.iter().map(|row| &*row.group).collect());
    let names = width(rows.iter().map(|row| &*row.name).collect());
    let arrows = width(uses.iter().map(|uses| &**uses).collect());
    let mut drawn = String::new();
    let mut last = None;
    for (row, uses) in rows.iter().zip(&uses) {
        let group = if last == Some(&row.group) { "" } else { &row.group };
        // An empty line separates the groups.
        if !group.is_empty() && last.is_some() {
            drawn.push('\n');
        }
        last = Some(&row.group);
        let margin = if groups == 0 { String::new() } else { format!(" {group:<groups$} ") };
        let line = format!("{margin} {:<names$}  {uses:<arrows$}  {}", row.name, row.summary);
        drawn += line.trim_end();
        drawn.push('\n');
    }
    drawn
}

/// Returns the rows that a row uses, without those that it also reaches over another one.
fn shown(rows: &[Row], row: usize) -> BTreeSet<usize> {
    let uses = &rows[row].uses;
    let mut further = BTreeSet::new();
    let mut pending: Vec<usize> = uses.iter().flat_map(|used| &rows[*used].uses).copied().collect();
    while let Some(reached) = pending.pop() {
        if further.insert(reached) {
            pending.extend(&rows[reached].uses);
        }
    }
    uses.difference(&further).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_that_follow_from_others_are_left_out() {
        let row = |group: &str, name: &str, uses: &[usize]| Row {
            group: group.to_owned(),
            name: name.to_owned(),
            summary: format!("the {name}"),
            uses: uses.iter().copied().collect(),
        };
        let rows = vec![
            row("up", "a", &[1, 2, 3]),
            row("up", "bb", &[2]),
            row("low", "c", &[]),
            row("low", "d", &[]),
        ];
        let drawn = [
            " up   a   -> bb, d  the a",
            "      bb  -> c      the bb",
            "",
            " low  c             the c",
            "      d             the d",
            "",
        ];
        assert_eq!(draw(rows), drawn.join("\n"));
    }
}
