//! The arrows between the files of a crate, and which of them break the order of declarations.

use std::collections::BTreeMap;

use super::tree::{ModuleId, ModuleTree, Target};

/// The arrows between the files of a crate.
pub(crate) struct Arrows<'a> {
    tree: &'a ModuleTree,
    /// The line of the first use, by the files that the arrow leads from and to.
    lines: BTreeMap<(ModuleId, ModuleId), usize>,
    /// Whether a file reaches another one over arrows.
    reaches: Vec<Vec<bool>>,
}

/// A file uses an item of another file.
pub(crate) struct Arrow {
    /// The file that uses the item.
    pub from: ModuleId,
    /// The file that defines the item.
    pub to: ModuleId,
    /// Line of the first use.
    pub line: usize,
    /// Whether the order of declarations allows it.
    pub direction: Direction,
}

/// Whether the order of declarations allows an arrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// To a module that is declared above, to the file's own child, or to an ancestor that does
    /// not need the file.
    Down,
    /// To a module that is declared below.
    Up,
    /// To an ancestor that uses this file.
    Circle,
}

impl<'a> Arrows<'a> {
    /// Finds the arrows of a crate.
    pub(crate) fn of(tree: &'a ModuleTree) -> Self {
        let mut lines = BTreeMap::new();
        for id in tree.ids() {
            for (path, target) in tree.uses(id) {
                // The path that goes on from a module's name is counted, not the name.
                let Target::Item(module) = target else { continue };
                let (from, to) = (tree.owner(id), tree.owner(module));
                if from != to {
                    let line = lines.entry((from, to)).or_insert(path.line);
                    *line = path.line.min(*line);
                }
            }
        }
        let reaches = closure(tree.ids().len(), lines.keys().copied());
        Arrows { tree, lines, reaches }
    }

    /// Returns all arrows, sorted by the files they come from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arrow> {
        self.lines.iter().map(|(&(from, to), &line)| Arrow {
            from,
            to,
            line,
            direction: self.direction(from, to),
        })
    }

    /// Returns the number of files that use themselves over other files.
    pub(crate) fn files_in_circles(&self) -> usize {
        self.tree.ids().filter(|id| self.reaches[*id][*id]).count()
    }

    fn direction(&self, from: ModuleId, to: ModuleId) -> Direction {
        if self.tree.is_within(to, from) {
            return Direction::Down;
        }
        if self.tree.is_within(from, to) {
            return if self.reaches[to][from] { Direction::Circle } else { Direction::Down };
        }
        // Siblings, or inside siblings: identifiers grow in the order of declarations.
        let (ours, theirs) = (self.tree.line(from), self.tree.line(to));
        let siblings = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        match siblings {
            Some((ours, theirs)) if theirs > ours => Direction::Up,
            _ => Direction::Down,
        }
    }
}

/// Returns for each pair of nodes whether one reaches the other over at least one arrow.
fn closure(count: usize, arrows: impl Iterator<Item = (ModuleId, ModuleId)>) -> Vec<Vec<bool>> {
    let mut reaches = vec![vec![false; count]; count];
    arrows.for_each(|(from, to)| reaches[from][to] = true);
    for middle in 0..count {
        let onward = reaches[middle].clone();
        for row in reaches.iter_mut().filter(|row| row[middle]) {
            row.iter_mut().zip(&onward).for_each(|(reached, further)| *reached |= further);
        }
    }
    reaches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the arrows of a crate in short: `a -> b`, with a mark if they break the order.
    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let tree = ModuleTree::of_snippets(files);
        let short = |arrow: Arrow| {
            let mark = match arrow.direction {
                Direction::Down => "",
                Direction::Up => " up",
                Direction::Circle => " circle",
            };
            format!("{} -> {}{mark}", tree.path(arrow.from), tree.path(arrow.to))
        };
        Arrows::of(&tree).iter().map(short).collect()
    }

    #[test]
    fn an_arrow_to_a_module_declared_below_leads_up() {
        let files = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "")];
        assert_eq!(arrows(&files), ["a -> b up"]);
        let files = [("lib.rs", "mod b; mod a;"), ("a.rs", "use crate::b::B;"), ("b.rs", "")];
        assert_eq!(arrows(&files), ["a -> b"]);
    }

    #[test]
    fn children_have_the_layer_of_their_parent() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod x; mod y; fn f() { x::g() }"),
            ("a/x.rs", "use super::y::Y; pub fn g() {}"),
            ("a/y/mod.rs", "use crate::b; pub struct Y(b::B);"),
            ("b.rs", "use crate::a::y::Y; pub struct B;"),
        ];
        assert_eq!(arrows(&files), ["a -> a::x", "a::x -> a::y up", "a::y -> b up", "b -> a::y"]);
    }

    #[test]
    fn a_parent_and_a_child_that_use_each_other_are_a_circle() {
        let child = ("a/x.rs", "use super::A; pub fn g(_: A) {}");
        let using = [("lib.rs", "mod a;"), ("a.rs", "mod x; struct A; fn f() { x::g(A) }"), child];
        assert_eq!(arrows(&using), ["a -> a::x", "a::x -> a circle"]);
        let plain = [("lib.rs", "mod a;"), ("a.rs", "mod x; pub use x::g; struct A;"), child];
        assert_eq!(arrows(&plain), ["a::x -> a"]);
    }

    #[test]
    fn a_circle_over_a_sibling_is_found() {
        let files = [
            ("lib.rs", "mod x; mod y; struct A; fn f() { y::g() }"),
            ("x.rs", "use crate::A; pub struct X;"),
            ("y.rs", "use crate::x::X; pub fn g() {}"),
        ];
        assert_eq!(arrows(&files), ["crate -> y", "x -> crate circle", "y -> x"]);
    }

    #[test]
    fn a_re_export_is_no_arrow_and_hides_none() {
        let files = [
            ("lib.rs", "mod a; mod b; pub use b::{B, C as D}; pub use b::*;"),
            ("a.rs", "use crate::B; fn f(_: crate::D, _: crate::E) {}"),
            ("b.rs", "mod c; pub struct B; pub struct C; pub use c::E;"),
            ("b/c.rs", "pub struct E;"),
        ];
        assert_eq!(arrows(&files), ["a -> b up", "a -> b::c up"]);
        let own_use =
            [("lib.rs", "mod b; pub use b::B; fn f() -> B { B }"), ("b.rs", "pub struct B;")];
        assert_eq!(arrows(&own_use), ["crate -> b"]);
    }

    #[test]
    fn blocks_count_as_their_file_and_other_crates_not_at_all() {
        let files = [
            ("lib.rs", "mod a; mod std_like; use std::fmt; use log::log; fn f() { a::g() }"),
            ("a.rs", "mod imp { use super::A; use crate::std_like::S; } struct A; use crate::log;"),
            ("std_like.rs", "pub struct S; fn f() { std::fmt::Display::fmt(); }"),
        ];
        assert_eq!(arrows(&files), ["crate -> a", "a -> std_like up"]);
    }
}
