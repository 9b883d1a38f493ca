//! The part of Markdown that the checks need: links and table rows outside code blocks.

/// A link `[text](target)`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    /// Line number, from 1.
    pub line: usize,
    /// The visible text.
    pub text: &'a str,
    /// The path or address.
    pub target: &'a str,
}

/// Returns the lines outside code blocks, with their numbers from 1.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return None;
        }
        (!in_code).then_some((index + 1, line))
    })
}

/// Returns all links of a document.
pub(crate) fn links(text: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    for (line, content) in prose(text) {
        for (middle, _) in content.match_indices("](") {
            let Some(open) = content[..middle].rfind('[') else { continue };
            let rest = &content[middle + 2..];
            let Some(close) = rest.find(')') else { continue };
            found.push(Link { line, text: &content[open + 1..middle], target: &rest[..close] });
        }
    }
    found
}

/// Returns the cells of all table rows, without the ruler lines.
pub(crate) fn rows(text: &str) -> Vec<(usize, Vec<&str>)> {
    prose(text)
        .filter(|(_, line)| line.starts_with('|') && !line.starts_with("|-"))
        .map(|(number, line)| {
            (number, line.trim().trim_matches('|').split('|').map(str::trim).collect())
        })
        .collect()
}

/// Returns the parts of a line between single backticks.
pub(crate) fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_blocks_do_not_count() {
        let text = "see [`a::b`](x.rs) and [c](d.md#e)\n```\n[no](link)\n```\n";
        let expected = [
            Link { line: 1, text: "`a::b`", target: "x.rs" },
            Link { line: 1, text: "c", target: "d.md#e" },
        ];
        assert_eq!(links(text), expected);
    }

    #[test]
    fn a_table_gives_its_cells_and_not_its_ruler() {
        let text = "| a | b |\n|---|---|\n| `1` | 2 |\n";
        assert_eq!(rows(text), [(1, vec!["a", "b"]), (3, vec!["`1`", "2"])]);
    }
}
