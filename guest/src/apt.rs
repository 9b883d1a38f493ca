//! Downloads packages with apt, with lists and caches of its own and without root.
//!
//! The package sources are those of the machine's own apt. Only the release's backports suite is
//! added, of the same origin and signed by the same keys: it has a newer kernel, whose zram
//! supports zstd.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::missing::Missing;

/// A source of packages of the machine's release.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    uri: String,
    suite: String,
}

/// An apt with its own folder for lists and caches.
pub(crate) struct Apt {
    folder: PathBuf,
    backports: Option<String>,
}

impl Apt {
    /// Reads the package lists of the machine's release and its backports into `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        if shell::find_program("apt-get").is_none() {
            bail!(Missing(
                "the guest consists of Debian packages, but apt-get is not installed".into()
            ));
        }
        // Find the source of the machine's release in its own apt.
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let origins = origins(&output_of(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(ORIGIN)",
            "Created-By: Packages",
        ]))?);
        let Some(main) =
            codename(&release).and_then(|name| origins.iter().find(|origin| origin.suite == name))
        else {
            bail!(Missing(
                "this machine's apt knows no Debian release (try apt-get update first)".into()
            ));
        };
        for subfolder in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(folder.join(subfolder))
                .with_context(|| format!("cannot create {subfolder}"))?;
        }
        // Read the lists with backports, or without them where the mirror has none.
        let backports = format!("{}-backports", main.suite);
        let mut apt = Self { folder: folder.to_path_buf(), backports: Some(backports.clone()) };
        if !apt.update(&main.uri, &[&main.suite, &backports])? {
            apt.backports = None;
            if !apt.update(&main.uri, &[&main.suite])? {
                bail!(Missing("apt-get update fails".into()));
            }
        }
        Ok(apt)
    }

    /// Returns the package that a metapackage depends on, from backports if they have it.
    pub(crate) fn resolve_metapackage(&self, metapackage: &str) -> Result<String> {
        let mut command = self.command("apt-cache");
        if let Some(backports) = &self.backports {
            command.args(["-t", backports]);
        }
        command.args(["--important", "depends", metapackage]);
        let found = dependency(&output_of(&mut command)?);
        Ok(found.ok_or_else(|| Missing(format!("apt has no {metapackage} for this machine")))?)
    }

    /// Downloads packages into a folder without unpacking them.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(["-qq", "download"]).args(packages).current_dir(into);
        eprintln!("guest: fetching {}", packages.join(" "));
        if !command.status().context("cannot start apt-get")?.success() {
            bail!(Missing("apt-get cannot download the guest's packages".into()));
        }
        Ok(())
    }

    fn update(&self, uri: &str, suites: &[&str]) -> Result<bool> {
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let signed =
            if Path::new(keys).exists() { format!("[signed-by={keys}] ") } else { String::new() };
        let lines: Vec<String> =
            suites.iter().map(|suite| format!("deb {signed}{uri} {suite} main\n")).collect();
        std::fs::write(self.folder.join("sources.list"), lines.concat())
            .context("cannot write sources.list")?;
        eprintln!("guest: reading the package lists of {}", suites.join(" and "));
        // By default a list that cannot be downloaded is only a warning.
        let mut update = self.command("apt-get");
        update.args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]);
        Ok(update.status().context("cannot start apt-get")?.success())
    }

    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // apt's own user may have no access to the folder.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot start `{}`", shell::line(command)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the release's codename from `/etc/os-release`.
fn codename(release: &str) -> Option<&str> {
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
}

/// Returns Debian's lines of `apt-get indextargets`.
fn origins(targets: &str) -> Vec<Origin> {
    let mut origins = Vec::new();
    for line in targets.lines() {
        let [uri, suite, "Debian"] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            continue;
        };
        origins.push(Origin { uri: uri.to_owned(), suite: suite.to_owned() });
    }
    origins
}

/// Returns the first dependency in the output of `apt-cache depends`.
fn dependency(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_the_release_is_found() {
        let release = "PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let targets = "http://a.example/debian/ bookworm Debian\nhttp://b.example/x/ nodistro Other people\n\
                       http://c.example/security/ bookworm-security Debian\n";
        assert_eq!(codename(release), Some("bookworm"));
        let found = origins(targets);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Origin { uri: "http://a.example/debian/".into(), suite: "bookworm".into() }
        );
        assert_eq!(codename("ID=none"), None);
    }

    #[test]
    fn a_metapackage_resolves_to_its_dependency() {
        let answer = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.95+deb12-cloud-amd64\n";
        assert_eq!(dependency(answer).as_deref(), Some("linux-image-6.12.95+deb12-cloud-amd64"));
        assert_eq!(dependency("E: No packages found\n"), None);
    }
}
