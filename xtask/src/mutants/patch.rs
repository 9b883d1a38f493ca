//! The patch files: a header that says what is taken out and who must notice, then a diff as `git` writes it.
//!
//! ```text
//! guard: what the patch removes
//! why: what could happen without it
//! package: memzip-frames
//! kind: loom                      test, loom or shuttle
//! target: races                   an integration test; without this line, the unit tests
//! test: migrate::tests::s08_...   its full name; the lines from `package` on may come again
//! finds: a part of what the failing test says; several lines are alternatives
//! hang: 20                        only where a test that has not ended after so many seconds has failed rightly
//! --- a/mm/frames/src/...
//! ```

use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A patch and what it is for.
#[derive(Debug)]
pub struct Mutant {
    /// The file's name without extension.
    pub name: String,
    /// What the file says, for git, which passes over the header.
    pub patch: String,
    /// What it removes.
    pub guard: String,
    /// The tests that must fail, each of them.
    pub tests: Vec<Test>,
    /// What a failing test must say, one of these.
    pub finds: Vec<String>,
    /// After how long a test that does not end counts as failed; `None` when that would be an error.
    pub may_hang: Option<Duration>,
}

/// A test by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// What runs it.
    pub kind: Kind,
    /// The cargo package.
    pub package: String,
    /// The integration test it stands in; none for a unit test.
    pub target: Option<String>,
    /// Its full name.
    pub name: String,
}

/// What runs a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Plain threads.
    Plain,
    /// Every interleaving.
    Loom,
    /// Random interleavings that can be repeated.
    Shuttle,
}

impl Kind {
    fn parse(word: &str) -> Result<Self> {
        match word {
            "test" => Ok(Kind::Plain),
            "loom" => Ok(Kind::Loom),
            "shuttle" => Ok(Kind::Shuttle),
            _ => bail!("kind is test, loom or shuttle, not {word}"),
        }
    }

    /// The cfg it needs, which also names its target folder.
    pub fn cfg(self) -> Option<&'static str> {
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
        write!(f, "{} of {} ({target} tests, {})", self.name, self.package, self.kind.cfg().unwrap_or("plain"))
    }
}

/// All patches of a folder, by name.
pub fn read_all(folder: &Path) -> Result<Vec<Mutant>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            parse(&path, &text).with_context(|| format!("header of {}", path.display()))
        })
        .collect()
}

/// Reads a header.
pub fn parse(path: &Path, text: &str) -> Result<Mutant> {
    let (mut guard, mut why, mut finds, mut tests, mut may_hang) = (None, None, Vec::new(), Vec::new(), None);
    let (mut package, mut kind, mut target) = (None, None, None);
    let (header, _) = text.split_once("--- a/").context("no diff (`--- a/...`)")?;
    for line in header.lines().filter(|line| !line.trim().is_empty() && !is_of_git(line)) {
        let (field, value) = line.split_once(':').with_context(|| format!("no field: {line}"))?;
        let value = value.trim().to_owned();
        if value.is_empty() {
            bail!("{field} says nothing");
        }
        match field {
            "guard" => guard = Some(value),
            "why" => why = Some(value),
            "package" => (package, target) = (Some(value), None),
            "kind" => kind = Some(Kind::parse(&value)?),
            "target" => target = Some(value),
            "test" => tests.push(Test {
                kind: kind.context("no kind before test")?,
                package: package.clone().context("no package before test")?,
                target: target.clone(),
                name: value,
            }),
            "finds" => finds.push(value),
            "hang" => may_hang = Some(Duration::from_secs(value.parse().context("hang counts seconds")?)),
            _ => bail!("unknown field {field}: {value}"),
        }
    }
    why.context("no why")?;
    if tests.is_empty() || finds.is_empty() {
        bail!("no test, or nothing it must say (finds)");
    }
    let name = path.file_stem().context("no name")?.to_string_lossy().into_owned();
    let guard = guard.context("no guard")?;
    Ok(Mutant { name, patch: text.to_owned(), guard, tests, finds, may_hang })
}

/// Lines `git diff` writes above the diff itself.
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
package: memzip-zsmalloc
kind: test
target: races
test: s21
finds: left: 1
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
        assert_eq!((mutant.name.as_str(), mutant.may_hang), ("second-look", Some(Duration::from_secs(20))));
        assert_eq!(mutant.finds, ["left: 1", "Causality"]);
        assert_eq!(mutant.patch, TEXT);
        let [first, second] = &mutant.tests[..] else { panic!("two tests") };
        assert_eq!((first.kind, first.target.as_deref(), first.name.as_str()), (Kind::Loom, None, "loom_tests::s01"));
        assert_eq!((second.kind, second.target.as_deref()), (Kind::Plain, Some("races")));
    }

    #[test]
    fn a_header_that_lacks_something_is_an_error() {
        for field in ["guard", "why", "finds", "test", "kind", "package"] {
            let short: Vec<&str> = TEXT.lines().filter(|line| !line.starts_with(&format!("{field}:"))).collect();
            assert!(parse(Path::new("x.patch"), &short.join("\n")).is_err(), "{field}");
        }
        assert!(parse(Path::new("x.patch"), &TEXT.replace("kind: loom", "kind: luck")).is_err());
        assert!(parse(Path::new("x.patch"), &TEXT.replace("why:", "because:")).is_err());
        assert!(parse(Path::new("x.patch"), &TEXT.replace("hang: 20", "hang: caught")).is_err());
        assert!(parse(Path::new("x.patch"), "guard: g\n").is_err());
    }
}
