//! What a file imports, and what it calls it.

use tree_sitter::Node;

use super::Dialect;

/// A name in the file, and the path that it stands for.
type Found<'s> = Vec<(&'s str, String)>;

/// Collects the names that `node` imports, each with what it stands for.
pub fn collect<'s>(dialect: Dialect, node: Node<'_>, source: &'s str, found: &mut Found<'s>) {
    match dialect {
        Dialect::Python => python(node, source, found),
        Dialect::JavaScript | Dialect::TypeScript | Dialect::Tsx => script(node, source, found),
        Dialect::Rust => {
            if let Some(argument) = node.child_by_field_name("argument") {
                rust(argument, source, "", found);
            }
        }
        Dialect::Go => go(node, source, found),
        Dialect::Java => {
            let text = text(node, source).trim_start_matches("import").trim();
            let path = text.trim_start_matches("static ").trim_end_matches(';').trim();
            found.extend(path.rsplit_once('.').map(|(_, name)| (name, path.to_owned())));
        }
        Dialect::Php => php(node, source, found),
        _ => {}
    }
}

fn text<'s>(node: Node<'_>, source: &'s str) -> &'s str {
    source.get(node.byte_range()).unwrap_or_default()
}

fn python<'s>(node: Node<'_>, source: &'s str, found: &mut Found<'s>) {
    let module = node.child_by_field_name("module_name").map(|module| text(module, source));
    if let Some(module) = module
        && text(node, source).ends_with('*')
    {
        found.push(("*", module.to_owned()));
    }
    for name in node.children_by_field_name("name", &mut node.walk()) {
        let full = text(name.child_by_field_name("name").unwrap_or(name), source);
        let alias = name.child_by_field_name("alias").map(|alias| text(alias, source));
        match (module, alias) {
            (Some(module), alias) => found.push((alias.unwrap_or(full), format!("{module}.{full}"))),
            (None, Some(alias)) => found.push((alias, full.to_owned())),
            // `import a.b` binds `a`.
            (None, None) => {
                let first = full.split('.').next().unwrap_or(full);
                found.push((first, first.to_owned()));
            }
        }
    }
}

/// Returns what a module of JavaScript is called in rules.
pub fn script_module(module: &str) -> String {
    let module = module.trim_matches(['"', '\'', '`']);
    module.strip_prefix("node:").unwrap_or(module).replace('.', "_")
}

fn script<'s>(node: Node<'_>, source: &'s str, found: &mut Found<'s>) {
    let module = node.child_by_field_name("source").map(|module| script_module(text(module, source)));
    for clause in node.named_children(&mut node.walk()) {
        if clause.kind() == "import_require_clause" {
            if let (Some(local), Some(module)) = (clause.named_child(0), clause.child_by_field_name("source")) {
                found.push((text(local, source), script_module(text(module, source))));
            }
            continue;
        }
        let Some(module) = module.as_ref().filter(|_| clause.kind() == "import_clause") else { continue };
        for part in clause.named_children(&mut clause.walk()) {
            match part.kind() {
                "identifier" => found.push((text(part, source), module.clone())),
                "namespace_import" => {
                    found.extend(part.named_child(0).map(|name| (text(name, source), module.clone())));
                }
                _ => named_imports(part, source, module, found),
            }
        }
    }
}

fn named_imports<'s>(node: Node<'_>, source: &'s str, module: &str, found: &mut Found<'s>) {
    for specifier in node.named_children(&mut node.walk()) {
        let Some(name) = specifier.child_by_field_name("name") else { continue };
        let local = text(specifier.child_by_field_name("alias").unwrap_or(name), source);
        let name = text(name, source);
        let path = if name == "default" { module.to_owned() } else { format!("{module}.{name}") };
        found.push((local, path));
    }
}

fn rust<'s>(node: Node<'_>, source: &'s str, prefix: &str, found: &mut Found<'s>) {
    let join = |name: &str| {
        let name = name.replace("::", ".");
        if prefix.is_empty() { name } else { format!("{prefix}.{name}") }
    };
    match node.kind() {
        "use_as_clause" => {
            if let (Some(path), Some(alias)) = (node.child_by_field_name("path"), node.child_by_field_name("alias")) {
                found.push((text(alias, source), join(text(path, source))));
            }
        }
        "scoped_use_list" | "use_list" => {
            let path = node.child_by_field_name("path");
            let prefix = path.map_or_else(|| prefix.to_owned(), |path| join(text(path, source)));
            let list = node.child_by_field_name("list").unwrap_or(node);
            for child in list.named_children(&mut list.walk()) {
                // `process::{self, Command}` binds `process` too.
                if child.kind() == "self" {
                    let name = path.map_or("", |path| text(path, source));
                    found.push((name.rsplit("::").next().unwrap_or(name), prefix.clone()));
                    continue;
                }
                rust(child, source, &prefix, found);
            }
        }
        "use_wildcard" => found.extend(node.named_child(0).map(|path| ("*", join(text(path, source))))),
        _ => {
            let path = text(node, source);
            found.push((path.rsplit("::").next().unwrap_or(path), join(path)));
        }
    }
}

fn go<'s>(node: Node<'_>, source: &'s str, found: &mut Found<'s>) {
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        if node.kind() != "import_spec" {
            stack.extend(node.named_children(&mut node.walk()));
            continue;
        }
        let Some(path) = node.child_by_field_name("path") else { continue };
        let path = text(path, source).trim_matches(['"', '`']);
        let mut name = path.rsplit('/').next().unwrap_or(path);
        // `example.com/x/y/v2` is called y.
        if name.strip_prefix('v').is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit())) {
            name = path.rsplit('/').nth(1).unwrap_or(name);
        }
        let local = node.child_by_field_name("name").map_or(name, |alias| text(alias, source));
        let local = if local == "." { "*" } else { local };
        found.push((local, path.replace('.', "_")));
    }
}

fn php<'s>(node: Node<'_>, source: &'s str, found: &mut Found<'s>) {
    for clause in node.named_children(&mut node.walk()) {
        let Some(path) = clause.named_child(0).filter(|_| clause.kind() == "namespace_use_clause") else { continue };
        let path = text(path, source).trim_start_matches('\\');
        let name = path.rsplit('\\').next().unwrap_or(path);
        let local = clause.child_by_field_name("alias").map_or(name, |alias| text(alias, source));
        found.push((local, path.replace('\\', ".")));
    }
}
