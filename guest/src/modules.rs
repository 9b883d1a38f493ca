//! Kernel modules: found by name, decompressed and sorted so that each can be inserted.
//!
//! Dependencies are read from the modules themselves, without `depmod`. A name without a file is
//! built into the kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A module.
#[derive(Debug)]
pub(crate) struct Module {
    pub name: String,
    pub code: Vec<u8>,
}

/// Collects the modules `wanted` below `folder` with their dependencies, dependencies first.
pub(crate) fn collect(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    walk(folder, &mut files)?;
    let mut found = Vec::new();
    for name in wanted {
        add(&files, name, &mut found)?;
    }
    Ok(found)
}

fn add(files: &BTreeMap<String, PathBuf>, name: &str, found: &mut Vec<Module>) -> Result<()> {
    let name = name.replace('-', "_");
    if found.iter().any(|module: &Module| module.name == name) {
        return Ok(());
    }
    let Some(path) = files.get(&name) else { return Ok(()) };
    let code = read(path)?;
    for needed in needs(&code) {
        add(files, &needed, found)?;
    }
    found.push(Module { name, code });
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        }
        Some("xz") => {
            let output =
                Command::new("xz").arg("-dc").arg(path).output().context("cannot start xz")?;
            if !output.status.success() {
                bail!("xz cannot read {}", path.display());
            }
            Ok(output.stdout)
        }
        _ => bail!("{} has an unknown compression; .ko and .ko.xz are known", path.display()),
    }
}

/// Returns the names in the `depends=` field of a module's `.modinfo`.
fn needs(code: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(start) = code.windows(FIELD.len()).position(|window| window == FIELD) else {
        return Vec::new();
    };
    let value: Vec<u8> =
        code[start + FIELD.len()..].iter().copied().take_while(|&byte| byte != 0).collect();
    let value = String::from_utf8_lossy(&value).into_owned();
    value.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn walk(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, files)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|name| name.to_str()?.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let needs_of = |text: &[u8]| needs(text);
        assert_eq!(
            needs_of(b"\x7fELF..\0license=GPL\0depends=zsmalloc,lz4_compress\0name=zram\0"),
            ["zsmalloc", "lz4_compress"]
        );
        assert!(needs_of(b"\0depends=\0name=x\0").is_empty());
        assert!(needs_of(b"nothing").is_empty());
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let folder = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).expect("a folder");
        std::fs::write(folder.join("zram.ko"), b"\0depends=zs-malloc,lz4\0").expect("a file");
        std::fs::write(folder.join("deep/lz4.ko"), b"\0depends=zs_malloc\0").expect("a file");
        std::fs::write(folder.join("deep/zs-malloc.ko"), b"\0depends=\0").expect("a file");
        let found = collect(&folder, &["zram", "lz4", "ext4"]).expect("the modules can be read");
        std::fs::remove_dir_all(&folder).expect("the folder belongs to this test");
        let names: Vec<&str> = found.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["zs_malloc", "lz4", "zram"]);
    }
}
