//! What the text of a module declares and names, without the parts that exist only in tests.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ExprLit, ImplItem, Item, ItemConst, ItemEnum, ItemExternCrate, ItemFn,
    ItemImpl, ItemMacro, ItemMod, ItemStatic, ItemStruct, ItemTrait, ItemType, ItemUnion, ItemUse,
    Lit, Meta, Token, TraitItem, UseTree, Visibility,
};

/// The declarations of a module, and the paths in its code.
#[derive(Default)]
pub(crate) struct Scope {
    /// The first paragraph of the documentation, in one line.
    pub summary: String,
    /// Child modules in the order of their declarations.
    pub children: Vec<Child>,
    /// Names of functions, types, constants and macros.
    pub items: BTreeSet<String>,
    /// `use` declarations, one for each name.
    pub imports: Vec<Import>,
    /// Paths in expressions, types, attributes and the arguments of macros.
    pub paths: Vec<NamedPath>,
}

/// A child module.
pub(crate) struct Child {
    /// Its name.
    pub name: String,
    /// Its content, or `None` if it is in a file of its own.
    pub content: Option<Scope>,
}

/// A name that a `use` declaration brings into a module.
pub(crate) struct Import {
    /// The name in this module, or `None` for a glob.
    pub name: Option<String>,
    /// What it stands for.
    pub path: NamedPath,
    /// Whether other modules can use the name, too.
    pub is_public: bool,
}

/// A path as written.
#[derive(Clone)]
pub(crate) struct NamedPath {
    /// Names between `::`.
    pub segments: Vec<String>,
    /// Line number, from 1.
    pub line: usize,
}

impl Scope {
    /// Reads a file.
    pub(crate) fn read(text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut scope = Self::of_items(&file.items);
        let lines = file.attrs.iter().map_while(documentation);
        let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        scope.summary = paragraph.join(" ");
        Ok(scope)
    }

    fn of_items(items: &[Item]) -> Self {
        let mut scope = Scope::default();
        items.iter().for_each(|item| scope.visit_item(item));
        scope
    }

    fn add_import(&mut self, tree: &UseTree, prefix: &[String], line: usize, is_public: bool) {
        let with = |last: String| [prefix, &[last]].concat();
        let (name, segments) = match tree {
            UseTree::Path(path) => {
                let prefix = with(path.ident.to_string());
                return self.add_import(&path.tree, &prefix, line, is_public);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_import(tree, prefix, line, is_public);
                }
                return;
            }
            UseTree::Glob(_) => (None, prefix.to_vec()),
            // `use a::b::{self}` names `b`.
            UseTree::Name(name) if name.ident == "self" => {
                (prefix.last().cloned(), prefix.to_vec())
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                (Some(name.clone()), with(name))
            }
            UseTree::Rename(rename) => {
                (Some(rename.rename.to_string()), with(rename.ident.to_string()))
            }
        };
        self.imports.push(Import { name, path: NamedPath { segments, line }, is_public });
    }

    /// Adds the paths in the arguments of a macro or an attribute.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons, mut is_field) = (0, 0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_path(&mut path, line);
                        line = ident.span().start().line;
                    }
                    if !is_field {
                        path.push(ident.to_string());
                    }
                    (colons, is_field) = (0, false);
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Punct(punct) => is_field = punct.as_char() == '.',
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Literal(_) => {}
            }
            self.add_path(&mut path, line);
            colons = 0;
        }
        self.add_path(&mut path, line);
    }

    fn add_path(&mut self, segments: &mut Vec<String>, line: usize) {
        if !segments.is_empty() {
            self.paths.push(NamedPath { segments: std::mem::take(segments), line });
        }
    }
}

impl<'ast> Visit<'ast> for Scope {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        self.items.extend(name(item));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let content = module.content.as_ref().map(|(_, items)| Scope::of_items(items));
        self.children.push(Child { name: module.ident.to_string(), content });
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let line = item.use_token.span.start().line;
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.add_import(&item.tree, &[], line, is_public);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(function) if is_for_tests(&function.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |first| first.ident.span().start().line);
        self.add_path(&mut segments, line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // A documentation comment is an attribute, too, and its links are no code. The names in
        // a condition are no paths.
        if let Meta::List(list) = &attribute.meta
            && !list.path.is_ident("cfg")
        {
            self.add_tokens(list.tokens.clone());
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(in path)` limits the users of an item; the item does not use it.
    }
}

/// Returns the text of a line of documentation.
fn documentation(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("doc") => {
            Some(text.value().trim().to_owned())
        }
        _ => None,
    }
}

/// Returns whether an item exists only in tests.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args().is_ok_and(|condition| requires_test(&condition))
    })
}

/// Returns whether a condition of `cfg` is true only in tests.
fn requires_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            else {
                return false;
            };
            (list.path.is_ident("all") && parts.iter().any(requires_test))
                || (list.path.is_ident("any") && parts.iter().all(requires_test))
        }
        Meta::NameValue(_) => false,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(ItemConst { attrs, .. })
        | Item::Enum(ItemEnum { attrs, .. })
        | Item::ExternCrate(ItemExternCrate { attrs, .. })
        | Item::Fn(ItemFn { attrs, .. })
        | Item::Impl(ItemImpl { attrs, .. })
        | Item::Macro(ItemMacro { attrs, .. })
        | Item::Mod(ItemMod { attrs, .. })
        | Item::Static(ItemStatic { attrs, .. })
        | Item::Struct(ItemStruct { attrs, .. })
        | Item::Trait(ItemTrait { attrs, .. })
        | Item::Type(ItemType { attrs, .. })
        | Item::Union(ItemUnion { attrs, .. })
        | Item::Use(ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}

/// Returns the name that an item defines. Modules are children instead.
fn name(item: &Item) -> Option<String> {
    match item {
        Item::Const(ItemConst { ident, .. })
        | Item::Enum(ItemEnum { ident, .. })
        | Item::Static(ItemStatic { ident, .. })
        | Item::Struct(ItemStruct { ident, .. })
        | Item::Trait(ItemTrait { ident, .. })
        | Item::Type(ItemType { ident, .. })
        | Item::Union(ItemUnion { ident, .. }) => Some(ident.to_string()),
        Item::Fn(function) => Some(function.sig.ident.to_string()),
        Item::Macro(definition) => definition.ident.as_ref().map(ToString::to_string),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let scope = Scope::read(text).expect("the snippet is Rust");
        scope.paths.iter().map(|path| path.segments.join("::")).collect()
    }

    fn imports(text: &str) -> Vec<(String, String)> {
        let scope = Scope::read(text).expect("the snippet is Rust");
        let pair = |import: &Import| {
            (import.name.clone().unwrap_or_default(), import.path.segments.join("::"))
        };
        scope.imports.iter().map(pair).collect()
    }

    #[test]
    fn paths_in_code_types_and_macros_are_found() {
        assert_eq!(paths("fn f() { crate::a::g(); }"), ["crate::a::g"]);
        assert_eq!(paths("struct S(super::T);"), ["super::T"]);
        assert_eq!(paths("fn f() { m!(1, crate::a::B, x.y); }"), ["m", "crate::a::B", "x"]);
        assert_eq!(
            paths("#[arg(value_parser = sizes::parse)] struct S;"),
            ["value_parser", "sizes::parse"]
        );
    }

    #[test]
    fn comments_strings_and_tests_are_no_uses() {
        for text in [
            "// crate::a::b\n/// [`crate::a`]\nstruct S;",
            "const X: () = { \"crate::a\"; };",
            "#[cfg(test)] mod tests { use crate::a; }",
            "#[cfg(all(test, not(loom)))] fn f() { crate::a::g() }",
            "pub(in crate::a) struct S;",
        ] {
            assert!(paths(text).is_empty() && imports(text).is_empty(), "{text}");
        }
        assert_eq!(paths("#[cfg(any(test, fuzzing))] fn f() { crate::a::g() }").len(), 1);
    }

    #[test]
    fn the_summary_is_the_first_paragraph() {
        let text = "//! One\n//! sentence.\n//!\n//! More.\n/// An item.\nstruct S;";
        assert_eq!(Scope::read(text).expect("the snippet is Rust").summary, "One sentence.");
    }

    #[test]
    fn an_import_is_found_for_each_name() {
        let text = "use crate::a::{self, b::C, d as e};\nuse super::*;";
        let found = imports(text);
        let expected =
            [("a", "crate::a"), ("C", "crate::a::b::C"), ("e", "crate::a::d"), ("", "super")];
        assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }
}
