//! The modules of a crate in the order of their declarations, and what a path in one of them names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::scope::{NamedPath, Scope};
use crate::packages::Package;
use crate::tree::Source;

/// Most `use` declarations that a name passes through. Beyond it they name each other.
const MAX_IMPORTS: usize = 16;

/// The text of each file, by path.
type Files<'a> = BTreeMap<&'a Path, &'a str>;

/// A module, by its index in the tree.
pub(crate) type ModuleId = usize;

/// The modules of a library or a program, each after its parent. The first is the root.
pub(crate) struct ModuleTree {
    modules: Vec<Module>,
}

/// A module.
struct Module {
    name: String,
    parent: Option<ModuleId>,
    /// In the order of their declarations.
    children: Vec<ModuleId>,
    /// The module whose file contains this one: itself, or an ancestor if it is a block.
    owner: ModuleId,
    /// Its file.
    file: PathBuf,
    scope: Scope,
}

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A module.
    Module(ModuleId),
    /// An item of a module.
    Item(ModuleId),
    /// A name that a module imports from another crate.
    External,
}

impl ModuleTree {
    /// Reads the library and the programs of a package.
    pub(crate) fn of_package(package: &Package, sources: &[Source]) -> Result<Vec<Self>> {
        let rust = sources.iter().filter(|source| source.has_extension("rs"));
        let files: Files<'_> = rust.map(|source| (&*source.path, &*source.text)).collect();
        let is_shipped = |kind: &String| kind == "lib" || kind == "bin";
        let targets = package.targets.iter();
        targets
            .filter(|target| target.kind.iter().any(is_shipped))
            .map(|target| {
                let root = target.src_path.strip_prefix(shell::root()).unwrap_or(&target.src_path);
                Self::read(root, &files)
            })
            .collect()
    }

    /// Reads the snippets of a test. The first is the root.
    #[cfg(test)]
    pub(crate) fn of_snippets(snippets: &[(&str, &str)]) -> Self {
        let files: Files<'_> =
            snippets.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        Self::read(Path::new(snippets[0].0), &files).expect("the snippets are Rust")
    }

    /// Reads a crate from its root file. Modules without a file in `files` are left out.
    fn read(root: &Path, files: &Files<'_>) -> Result<Self> {
        let mut tree = ModuleTree { modules: Vec::new() };
        let scope = read(root, files)?.with_context(|| format!("{} is missing", root.display()))?;
        let folder = root.parent().unwrap_or(root);
        tree.add("", None, (root.to_path_buf(), folder.to_path_buf()), scope, files)?;
        Ok(tree)
    }

    fn add(
        &mut self,
        name: &str,
        parent: Option<ModuleId>,
        (file, folder): (PathBuf, PathBuf),
        mut scope: Scope,
        files: &Files<'_>,
    ) -> Result<()> {
        let id = self.modules.len();
        let declared = std::mem::take(&mut scope.children);
        let owner = parent
            .map(|parent| self.modules[parent].owner)
            .filter(|owner| self.modules[*owner].file == file);
        self.modules.push(Module {
            name: name.to_owned(),
            parent,
            children: Vec::new(),
            owner: owner.unwrap_or(id),
            file: file.clone(),

            scope,
        });
        if let Some(parent) = parent {
            self.modules[parent].children.push(id);
        }
        for child in declared {
            let folder = folder.join(&child.name);
            if let Some(content) = child.content {
                self.add(&child.name, Some(id), (file.clone(), folder), content, files)?;
                continue;
            }
            for path in [folder.with_extension("rs"), folder.join("mod.rs")] {
                if let Some(scope) = read(&path, files)? {
                    self.add(&child.name, Some(id), (path, folder.clone()), scope, files)?;
                }
            }
        }
        Ok(())
    }

    /// Returns all modules. Each comes after its parent and after the siblings declared above it.
    pub(crate) fn ids(&self) -> std::ops::Range<ModuleId> {
        0..self.modules.len()
    }

    /// Returns the modules that have a file of their own.
    pub(crate) fn files(&self) -> impl Iterator<Item = ModuleId> {
        self.ids().filter(|id| self.owner(*id) == *id)
    }

    /// Returns the module whose file contains this one.
    pub(crate) fn owner(&self, id: ModuleId) -> ModuleId {
        self.modules[id].owner
    }

    /// Returns the path of a module's file.
    pub(crate) fn file(&self, id: ModuleId) -> &Path {
        &self.modules[id].file
    }

    /// Returns the modules that a module declares, in order.
    pub(crate) fn children(&self, id: ModuleId) -> &[ModuleId] {
        &self.modules[id].children
    }

    /// Returns the first paragraph of a module's documentation.
    pub(crate) fn summary(&self, id: ModuleId) -> &str {
        &self.modules[id].scope.summary
    }

    /// Returns the last segment of a module's path. The root has none.
    pub(crate) fn name(&self, id: ModuleId) -> &str {
        &self.modules[id].name
    }

    /// Returns a module's path within its crate; `crate` for the root.
    pub(crate) fn path(&self, id: ModuleId) -> String {
        let names: Vec<&str> = self.line(id)[1..].iter().map(|id| self.name(*id)).collect();
        if names.is_empty() { "crate".to_owned() } else { names.join("::") }
    }

    /// Returns the ancestors of a module from the root, and the module itself.
    pub(crate) fn line(&self, id: ModuleId) -> Vec<ModuleId> {
        let mut line: Vec<ModuleId> =
            std::iter::successors(Some(id), |id| self.modules[*id].parent).collect();
        line.reverse();
        line
    }

    /// Returns whether `id` is `ancestor` or inside it.
    pub(crate) fn is_within(&self, id: ModuleId, ancestor: ModuleId) -> bool {
        self.line(id).contains(&ancestor)
    }

    /// Returns each path that a module's code names, and what it names. A re-export of an item of
    /// a child is not a use.
    pub(crate) fn uses(&self, id: ModuleId) -> Vec<(&NamedPath, Target)> {
        let scope = &self.modules[id].scope;
        let target = |path| Some((path, self.resolve(id, path, 0)?));
        let is_export = |target| match target {
            Target::Module(found) | Target::Item(found) => found != id && self.is_within(found, id),
            Target::External => false,
        };
        let imported = scope.imports.iter().filter_map(|import| {
            let (path, found) = target(&import.path)?;
            (!(import.is_public && is_export(found))).then_some((path, found))
        });
        imported.chain(scope.paths.iter().filter_map(target)).collect()
    }

    /// Returns what a path in a module names, or `None` if that is not in this crate. Follows
    /// re-exports to the definition.
    fn resolve(&self, from: ModuleId, path: &NamedPath, imports: usize) -> Option<Target> {
        let mut segments = path.segments.iter().map(String::as_str);
        let first = segments.next()?;
        let mut found = match first {
            "crate" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent?),
            name => self.find(from, name, path.segments.len() == 1, imports)?,
        };
        for (index, name) in segments.enumerate() {
            let Target::Module(module) = found else { break };
            let is_last = index + 2 == path.segments.len();
            found = match name {
                "super" => Target::Module(self.modules[module].parent?),
                // An item that a macro defines is not found by name.
                name => self.find(module, name, is_last, imports).unwrap_or(Target::Item(module)),
            };
        }
        Some(found)
    }

    /// Returns what a name means in a module. A module and a function may share a name; only the
    /// last segment of a path names the function.
    fn find(&self, module: ModuleId, name: &str, is_last: bool, imports: usize) -> Option<Target> {
        if imports > MAX_IMPORTS {
            return None;
        }
        let Module { children, scope, .. } = &self.modules[module];
        let child = children.iter().find(|child| self.name(**child) == name);
        let is_item = scope.items.contains(name);
        if let Some(child) = child.filter(|_| !(is_last && is_item)) {
            return Some(Target::Module(*child));
        }
        if is_item {
            return Some(Target::Item(module));
        }
        let mut named = scope.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        if let Some(import) = named.next() {
            let target = self.resolve_import(module, &import.path, imports);
            return Some(target.unwrap_or(Target::External));
        }
        let globs = scope.imports.iter().filter(|import| import.name.is_none());
        globs
            .filter_map(|glob| match self.resolve_import(module, &glob.path, imports)? {
                Target::Module(source) if source != module => {
                    self.find(source, name, is_last, imports + 1)
                }
                _ => None,
            })
            .next()
    }

    /// Resolves the path of an import. Its first segment is not the imported name itself, as in
    /// `use log::log`.
    fn resolve_import(&self, from: ModuleId, path: &NamedPath, imports: usize) -> Option<Target> {
        let first = path.segments.first()?;
        let is_relative = ["crate", "self", "super"].contains(&first.as_str());
        let is_child = self.modules[from].children.iter().any(|child| self.name(*child) == first);
        let is_item = self.modules[from].scope.items.contains(first);
        let is_imported = self.modules[from].scope.imports.iter().any(|import| {
            import.name.as_ref() == Some(first) && import.path.segments != path.segments
        });
        (is_relative || is_child || is_item || is_imported)
            .then(|| self.resolve(from, path, imports + 1))?
    }
}

fn read(path: &Path, files: &Files<'_>) -> Result<Option<Scope>> {
    let Some(text) = files.get(path) else { return Ok(None) };
    Scope::read(text).map(Some).with_context(|| format!("cannot parse {}", path.display()))
}
