//! Blocks of a document: text that a command prints. It is never written by hand.
//!
//! ```text
//! <!-- begin: memzip lab e1 -->
//! what the command printed
//! <!-- end -->
//! ```

use anyhow::{Result, ensure};

/// Start of a block, before its command.
pub(crate) const BEGIN: &str = "<!-- begin: ";
/// End of a block.
pub(crate) const END: &str = "<!-- end -->";
/// Returns the commands of a document's blocks.
pub(crate) fn commands(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(" -->")) {
            ensure!(!open, "the block before `{command}` has no end");
            open = true;
            found.push(command.to_owned());
        } else if line == END {
            ensure!(open, "an end without a beginning after {found:?}");
            open = false;
        }
    }
    ensure!(!open, "the last block has no end");
    Ok(found)
}

/// Returns the document with new content in the blocks of this command.
pub(crate) fn replaced(text: &str, command: &str, content: &str) -> Result<String> {
    commands(text)?;
    let begin = format!("{BEGIN}{command} -->");
    let (mut lines, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        if inside && line != END {
            continue;
        }
        inside = false;
        lines.push(line);
        if line == begin {
            lines.push(content.trim_end());
            inside = true;
        }
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Figures\n<!-- begin: memzip lab e1 -->\nold\n<!-- end -->\nbetween\n<!-- begin: b -->\n<!-- end -->\nlast\n";

    #[test]
    fn a_block_is_replaced_and_the_rest_stays() {
        let new = replaced(TEXT, "memzip lab e1", "one\ntwo\n").expect("well formed");
        assert_eq!(new, TEXT.replace("old", "one\ntwo"));
        assert_eq!(replaced(&new, "memzip lab e1", "old").expect("well formed"), TEXT, "and again");
        assert_eq!(replaced(TEXT, "c", "x").expect("well formed"), TEXT);
        assert_eq!(commands(TEXT).expect("well formed"), ["memzip lab e1", "b"]);
    }

    #[test]
    fn a_block_without_an_end_is_an_error() {
        for text in [
            "<!-- begin: a -->\n",
            "<!-- end -->\n",
            "<!-- begin: a -->\n<!-- begin: b -->\n<!-- end -->\n",
        ] {
            assert!(commands(text).is_err(), "{text}");
        }
    }
}
