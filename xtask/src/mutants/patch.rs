//! The patch files: a header that names the guard and its tests, then a diff as `git` writes it.
//!
//! ```text
//! guard: the property that the patch removes
//! why: the failure without it
//! package: memzip-frames
//! kind: loom                      test, loom or shuttle
//! target: races                   an integration test; without this line, the unit tests
//! test: migrate::tests::s08_...   the full name; the lines from `package` to `finds` may repeat
//! finds: a part of the output of the failed test; several lines are alternatives
//! hang: 20                        seconds after which a test that has not ended counts as failed
//! --- a/mm/frames/src/...
//! ```
//! `finds` is the message of an assertion, or its values. A text that every failure contains is
//! refused: a test that fails for another reason must not count.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A patch and its header.
#[derive(Debug)]
pub(crate) struct Mutant {
    /// The file's name without extension.
    pub name: String,
    /// The text of the file, for git, which ignores the header.
    pub patch: String,
    /// The property that the patch removes.
    pub guard: String,
    /// The tests, all of which must fail.
    pub expected: Vec<Expected>,
    /// Time after which a test that has not ended counts as failed; `None` if that is an error.
    pub may_hang: Option<Duration>,
}

impl Mutant {
    /// Returns the tests that must fail.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &Test> {
        self.expected.iter().map(|expected| &expected.test)
    }
}

/// A test that must fail, and its output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The test.
    pub test: Test,
    /// Texts of which the output must contain one; empty if the test hangs.
    pub finds: Vec<String>,
}

/// A test by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// The tool that runs it.
    pub kind: Kind,
    /// The cargo package.
    pub package: String,
    /// The integration test that contains it; `None` for a unit test.
    pub target: Option<String>,
    /// The full name.
    pub name: String,
}

/// A tool that runs a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Plain threads.
    Plain,
    /// loom: every interleaving with a bounded number of preemptions.
    Loom,
    /// shuttle: random but repeatable interleavings.
    Shuttle,
}

impl Kind {
    fn parse(word: &str) -> Result<Self> {
        match word {
            "test" => Ok(Kind::Plain),
            "loom" => Ok(Kind::Loom),
            "shuttle" => Ok(Kind::Shuttle),
            _ => bail!("kind must be test, loom or shuttle, not {word}"),
        }
    }

    /// Returns the cfg of the tool, which is also the name of its target folder.
    pub(crate) fn cfg(self) -> Option<&'static str> {
        match self {
            Kind::Plain => None,
            Kind::Loom => Some("loom"),
            Kind::Shuttle => Some("shuttle"),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.as_deref().unwrap_or("unit");
        write!(
            f,
            "{} of {} ({target} tests, {})",
            self.name,
            self.package,
            self.kind.cfg().unwrap_or("plain")
        )
    }
}

/// Reads all patches of a folder, sorted by name.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Mutant>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            parse(&path, &text).with_context(|| format!("header of {}", path.display()))
        })
        .collect()
}

/// Parses the header of a patch.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Mutant> {
    let (mut guard, mut why, mut expected, mut may_hang) =
        (None, None, Vec::<Expected>::new(), None);
    let (mut package, mut kind, mut target) = (None, None, None);
    // `package`, `kind` and `target` apply to the tests that follow them.
    let (header, _) = text.split_once("--- a/").context("no diff (`--- a/...`)")?;
    for line in header.lines().filter(|line| !line.trim().is_empty() && !is_of_git(line)) {
        let (field, value) = line.split_once(':').with_context(|| format!("no field: {line}"))?;
        let value = value.trim().to_owned();
        if value.is_empty() {
            bail!("{field} is empty");
        }
        match field {
            "guard" => guard = Some(value),
            "why" => why = Some(value),
            "package" => (package, target) = (Some(value), None),
            "kind" => kind = Some(Kind::parse(&value)?),
            "target" => target = Some(value),
            "test" => {
                let kind = kind.context("no kind before test")?;
                let package = package.clone().context("no package before test")?;
                let test = Test { kind, package, target: target.clone(), name: value };
                expected.push(Expected { test, finds: Vec::new() });
            }
            "finds" => {
                let Expected { test, finds } =
                    expected.last_mut().context("no test before finds")?;
                if let Some(problem) = unspecific(&value, test) {
                    bail!("finds: {value}: {problem}");
                }
                finds.push(value);
            }
            "hang" => {
                may_hang = Some(Duration::from_secs(
                    value.parse().context("hang must be a number of seconds")?,
                ))
            }
            _ => bail!("unknown field {field}: {value}"),
        }
    }
    // All fields must be present, and every test must have a text to find or a time to hang.
    why.context("no why")?;
    if expected.is_empty() {
        bail!("no test");
    }
    let silent = |expected: &&Expected| expected.finds.is_empty() && may_hang.is_none();
    if let Some(Expected { test, .. }) = expected.iter().find(silent) {
        bail!("{} has no `finds`", test.name);
    }
    let name = path.file_stem().context("no name")?.to_string_lossy().into_owned();
    let guard = guard.context("no guard")?;
    Ok(Mutant { name, patch: text.to_owned(), guard, expected, may_hang })
}

/// Returns why every failure contains this text, if so.
fn unspecific(value: &str, test: &Test) -> Option<&'static str> {
    let values = value.strip_prefix("left:").or_else(|| value.strip_prefix("right:"));
    let is_plain = |values: &str| !values.contains(|c: char| c.is_ascii_alphabetic());
    if value.contains("panicked") || "assertion failed".contains(value) {
        Some("every failure contains this")
    } else if value.ends_with(".rs") || test.name.contains(value) {
        Some("every failure of this test contains its file and name")
    } else if values.is_some_and(is_plain) {
        Some("only numbers; give the assertion a message")
    } else {
        None
    }
}

/// Returns whether `git diff` wrote this line above the diff.
fn is_of_git(line: &str) -> bool {
    ["diff --git ", "index "].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
guard: the second look at the word
why: the object may have moved
package: memzip-zsmalloc
kind: loom
test: loom_tests::s01
finds: its own bytes
package: memzip-zsmalloc
kind: test
target: races
test: s21
finds: freed twice
finds: Causality
hang: 20
diff --git a/mm/zsmalloc/src/access.rs b/mm/zsmalloc/src/access.rs
index 1..2 100644
--- a/mm/zsmalloc/src/access.rs
+++ b/mm/zsmalloc/src/access.rs
@@ -1 +1 @@
-x
+y
--- a/mm/zsmalloc/src/free.rs
+++ b/mm/zsmalloc/src/free.rs
";

    #[test]
    fn a_header_gives_its_fields_and_tests() {
        let mutant = parse(Path::new("a/second-look.patch"), TEXT).expect("complete");
        assert_eq!(
            (mutant.name.as_str(), mutant.may_hang),
            ("second-look", Some(Duration::from_secs(20)))
        );
        assert_eq!(mutant.patch, TEXT);
        assert_eq!(mutant.expected[0].finds, ["its own bytes"]);
        assert_eq!(mutant.expected[1].finds, ["freed twice", "Causality"]);
        let [first, second] = &mutant.expected[..] else { panic!("two tests") };
        let (first, second) = (&first.test, &second.test);
        assert_eq!(
            (first.kind, first.target.as_deref(), first.name.as_str()),
            (Kind::Loom, None, "loom_tests::s01")
        );
        assert_eq!((second.kind, second.target.as_deref()), (Kind::Plain, Some("races")));
    }

    #[test]
    fn a_text_that_every_failure_contains_is_refused() {
        for vague in
            ["panicked", "left: 1", "left: (0, 10)", "loom_tests.rs", "s21", "assertion failed"]
        {
            let text = TEXT.replace("finds: freed twice", &format!("finds: {vague}"));
            assert!(parse(Path::new("x.patch"), &text).is_err(), "{vague}");
        }
        let silent = TEXT.replace("finds: its own bytes\n", "");
        assert!(parse(Path::new("x.patch"), &silent).is_ok(), "the patch has a hang field");
        assert!(parse(Path::new("x.patch"), &silent.replace("hang: 20\n", "")).is_err());
    }

    #[test]
    fn an_incomplete_header_is_an_error() {
        for field in ["guard", "why", "test", "kind", "package"] {
            let short: Vec<&str> =
                TEXT.lines().filter(|line| !line.starts_with(&format!("{field}:"))).collect();
            assert!(parse(Path::new("x.patch"), &short.join("\n")).is_err(), "{field}");
        }
        assert!(parse(Path::new("x.patch"), &TEXT.replace("kind: loom", "kind: luck")).is_err());
        assert!(parse(Path::new("x.patch"), &TEXT.replace("why:", "because:")).is_err());
        assert!(parse(Path::new("x.patch"), &TEXT.replace("hang: 20", "hang: caught")).is_err());
        assert!(parse(Path::new("x.patch"), "guard: g\n").is_err());
    }
}
