//! Groups by name or number, as `--socket-group` accepts them.

use anyhow::{Context, Result};

/// The file that maps names of groups to numbers.
const FILE: &str = "/etc/group";

/// Returns the number of a group given by name or number.
///
/// # Errors
/// `/etc/group` cannot be read or has no such group.
pub(crate) fn number(group: &str) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let file = std::fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    find(&file, group)
        .with_context(|| format!("{FILE} has no group \"{group}\": give another name or a number"))
}

/// Finds the number of `name` in lines of the form `name:password:number:members`.
fn find(file: &str, name: &str) -> Option<u32> {
    let fields = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()? == name, fields.nth(1)?.parse().ok()?))
    };
    file.lines().filter_map(fields).find_map(|(is_it, number)| is_it.then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_name_or_number() {
        let file = "root:x:0:\nbroken\nkvm:x:106:anna,bert\nkv:x:7:";
        assert_eq!(
            (find(file, "kvm"), find(file, "kv"), find(file, "broken"), find(file, "anna")),
            (Some(106), Some(7), None, None)
        );
        assert_eq!(number("4242").expect("a number"), 4242);
        assert!(number("no such group").is_err());
    }
}
