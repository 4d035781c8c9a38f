//! No circle of imports among the files of a room. A `mod.rs` is ignored: it imports the
//! files next to it and is imported by them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, code, sources};

/// The path of a module or item from the crate's root.
type Path = Vec<String>;

struct Module {
    is_face: bool,
    /// The paths in its imports and in its code.
    names: Vec<Path>,
    /// Names that it re-exports, and their paths.
    exports: BTreeMap<String, Path>,
}

/// All modules by their paths.
fn modules(sources: &[Source]) -> BTreeMap<Path, Module> {
    let paths: Vec<(Path, bool)> = sources.iter().map(path).collect();
    let is_module = |path: &[String]| paths.iter().any(|(module, _)| module == path);
    let modules = sources.iter().zip(&paths).map(|(source, (path, is_face))| {
        let mut module = Module {
            is_face: *is_face,
            names: Vec::new(),
            exports: BTreeMap::new(),
        };
        for statement in statements(source) {
            let exported = statement.starts_with("pub");
            for (names, alias) in named(&statement) {
                let Some(target) = absolute(path, &names, is_module) else {
                    continue;
                };
                if exported && let Some(name) = alias.or(target.last().cloned()) {
                    module.exports.insert(name, target.clone());
                }
                module.names.push(target);
            }
        }
        (path.clone(), module)
    });
    modules.collect()
}

/// The path of a source's module, and whether it is the `mod.rs` of others.
fn path(source: &Source) -> (Path, bool) {
    let file = source.path.with_extension("");
    let file = file.to_string_lossy();
    let (_, inside) = file.split_once("/src/").expect("under src");
    let is_face = inside.ends_with("/mod") || source.path.with_extension("").is_dir();
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    (inside.split('/').map(str::to_owned).collect(), is_face)
}

/// The code without tests: each `use` statement in one string, and all other lines.
fn statements(source: &Source) -> Vec<String> {
    let mut all = Vec::new();
    let mut import = String::new();
    for (_, line) in code(source) {
        let line = line.trim();
        if line.starts_with("mod tests {") {
            break;
        }
        let begins =
            line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "));
        if !import.is_empty() || begins {
            import.push_str(line);
            if line.ends_with(';') {
                all.push(std::mem::take(&mut import));
            }
        } else {
            all.push(line.to_owned());
        }
    }
    all
}

/// The paths in a statement, each with its alias.
fn named(statement: &str) -> Vec<(Path, Option<String>)> {
    let mut found = Vec::new();
    let import = statement
        .split_once("use ")
        .filter(|_| statement.ends_with(';'));
    match import {
        Some((before, tree)) if before.is_empty() || before.starts_with("pub") => {
            expand(&[], tree.trim_end_matches(';'), &mut found);
        }
        _ => {
            let separates = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
            let words = statement.split(separates);
            let paths = words.filter(|word| word.contains("::"));
            found.extend(paths.map(|path| (names(path), None)));
        }
    }
    found
}

fn names(path: &str) -> Path {
    let names = path.split("::").map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// Collects the paths of an import tree such as `a::{b, c::{d as e}}`.
fn expand(prefix: &[String], tree: &str, found: &mut Vec<(Path, Option<String>)>) {
    let Some((head, list)) = tree.split_once('{') else {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = [prefix, &names(path)].concat();
        let alias = (!alias.is_empty()).then(|| alias.trim().to_owned());
        return found.push((path, alias));
    };
    let prefix = [prefix, &names(head)].concat();
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let mut depth = 0;
    let items = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for item in items.filter(|item| !item.trim().is_empty()) {
        expand(&prefix, item, found);
    }
}

/// The path from the crate's root; `None` if it leads to another crate.
fn absolute(
    module: &[String],
    names: &[String],
    is_module: impl Fn(&[String]) -> bool,
) -> Option<Path> {
    match names.first().map(String::as_str)? {
        "crate" => Some(names[1..].to_vec()),
        "self" => Some([module, &names[1..]].concat()),
        "super" => {
            let up = names.iter().take_while(|name| *name == "super").count();
            let base = module.get(..module.len().checked_sub(up)?)?;
            Some([base, &names[up..]].concat())
        }
        child => {
            let inside = [module, &[child.to_owned()]].concat();
            is_module(&inside).then(|| [module, names].concat())
        }
    }
}

/// The module to which a path leads, after re-exports.
fn home(modules: &BTreeMap<Path, Module>, path: &[String]) -> Option<Path> {
    let mut path = path.to_vec();
    for _ in 0..10 {
        let len = (1..=path.len())
            .rev()
            .find(|len| modules.contains_key(&path[..*len]))?;
        let module = &modules[&path[..len]];
        match path.get(len).and_then(|name| module.exports.get(name)) {
            Some(target) if *target != path => path = [target, &path[len + 1..]].concat(),
            _ => return Some(path[..len].to_vec()),
        }
    }
    None
}

/// The circles among the files of a room, each as a sorted list of files.
fn circles(modules: &BTreeMap<Path, Module>) -> BTreeSet<Vec<String>> {
    let counts = |path: &Path| !modules[path].is_face && !is_of_tests(path);
    let neighbours = |path: &Path| {
        let homes = modules[path].names.iter();
        let homes = homes.filter_map(|name| home(modules, name));
        let others = homes.filter(|home| home != path && home[0] == path[0] && counts(home));
        others.collect::<BTreeSet<_>>()
    };
    let counted: Vec<&Path> = modules.keys().filter(|path| counts(path)).collect();
    let edges: BTreeMap<&Path, BTreeSet<Path>> = counted
        .iter()
        .map(|path| (*path, neighbours(path)))
        .collect();
    let reached = |from: &Path| {
        let mut reached = BTreeSet::new();
        let mut left: Vec<&Path> = edges[from].iter().collect();
        while let Some(next) = left.pop() {
            if reached.insert(next.clone()) {
                left.extend(&edges[next]);
            }
        }
        reached
    };
    let reach: BTreeMap<&Path, BTreeSet<Path>> =
        counted.iter().map(|path| (*path, reached(path))).collect();
    let mut circles = BTreeSet::new();
    for path in &counted {
        let circle = reach[path]
            .iter()
            .filter(|other| reach[*other].contains(*path));
        let circle: Vec<String> = circle.map(|path| path.join("/")).collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles
}

fn is_of_tests(path: &Path) -> bool {
    let last = path.last().map_or("", String::as_str);
    let is_room_of_tests = |name: &String| name == "tests" || name == "simulation";
    last.ends_with("_tests") || path.iter().any(is_room_of_tests)
}

#[test]
fn files_of_a_room_do_not_import_one_another_in_circles() {
    let sources = sources();
    let modules = modules(&sources);
    let edges: usize = modules.values().map(|module| module.names.len()).sum();
    assert!(edges > 500, "only {edges} names found");
    let found: Vec<Vec<String>> = circles(&modules).into_iter().collect();
    assert!(found.is_empty(), "{found:?}");
}

/// A source file for tests, at a path under src/.
fn source(path: &str, text: &str) -> Source {
    Source {
        path: format!("/house/src/{path}").into(),
        room: String::new(),
        text: text.to_owned(),
    }
}

#[test]
fn circles_are_found_through_exports_lists_and_paths_in_the_code() {
    let face = "mod a;\nmod b;\npub use b::Thing as Other;\n";
    let of_room = |a: &str, b: &str| {
        let sources = [
            source("room/mod.rs", face),
            source("room/a.rs", a),
            source("room/b.rs", b),
            source("elsewhere.rs", "use crate::room::a::A;\n"),
        ];
        circles(&modules(&sources)).into_iter().collect::<Vec<_>>()
    };
    let circle = [["room/a", "room/b"]];
    let b = "struct Thing(super::a::A);\n";
    for a in [
        "use super::b::Thing;\n",
        "use super::Other;\n",
        "use crate::{\n    elsewhere,\n    room::{Other, self},\n};\n",
        "fn a() -> crate::room::b::Thing {\n",
    ] {
        assert_eq!(of_room(a, b), circle, "{a}");
        assert!(of_room(a, "struct Thing;\n").is_empty(), "{a}");
        assert!(of_room(&format!("mod tests {{\n{a}"), b).is_empty(), "{a}");
        assert!(of_room(&format!("// {a}"), b).is_empty(), "{a}");
    }
}
