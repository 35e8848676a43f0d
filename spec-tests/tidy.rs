//! Rules about the source tree itself, checked by reading it: direction of dependencies between layers,
//! documentation and size of files, where unsafe code may be, what the top level holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers in order: each uses only itself and those before it. `lib.rs` and `main.rs` stand outside.
const LAYERS: &[&str] = &[
    "shown",
    "error",
    "trap",
    "watch",
    "config",
    "module",
    "ir",
    "translate",
    "runtime",
    "exec",
    "link",
    "host",
    "cli",
];

/// Uses of a later layer that are meant, with the reason.
const LAYER_EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "error",
        "trap",
        "an error can be a trap; both belong to the bottom layer",
    ),
    (
        "config",
        "module",
        "the engine interns the function types of all its modules",
    ),
];

/// Files that are longer than `MOST_LINES`, with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

const MOST_LINES: usize = 1_000;

/// Folders with unsafe code; every other file begins with `#![forbid(unsafe_code)]` or has none.
const UNSAFE_FOLDERS: &[&str] = &["src/exec/", "src/runtime/", "src/ir/"];

/// Folders whose input comes from guests: no panicking shortcuts outside tests.
const NO_UNWRAP: &[&str] = &["src/link/", "src/host/", "src/module/"];

/// All that the top level may hold. Files whose name begins with a dot are free.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "src",
    "spec-tests",
    "fixtures",
    "benches",
    "target",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "LICENSE",
];

/// What the library needs without any feature.
const CORE_DEPENDENCIES: &[&str] = &["bitflags", "smallvec", "wasmparser"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder with this extension, relative to the root, with `/` between names.
fn files(folder: &str, extension: &str) -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "target" {
                    walk(&path, found);
                }
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let mut names: Vec<String> = found
        .iter()
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| path.strip_prefix(root()).ok())
        .map(|path| path.to_string_lossy().replace('\\', "/"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no .{extension} file below {folder}");
    names
}

/// Files below `src` that are part of the product, not only of its unit tests.
fn product_files() -> Vec<String> {
    let all = files("src", "rs");
    all.iter()
        .filter(|name| !is_test_file(name))
        .cloned()
        .collect()
}

/// Whether a file lies in a folder `tests`, or its parent says `#[cfg(test)] mod …;`.
fn is_test_file(name: &str) -> bool {
    if name.contains("/tests/") || name.ends_with("/tests.rs") {
        return true;
    }
    let Some((folder, file)) = name.rsplit_once('/') else {
        return false;
    };
    let module = file.trim_end_matches(".rs");
    let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
    parents.iter().any(|parent| {
        let text = fs::read_to_string(root().join(parent)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.windows(2).any(|pair| {
            pair[0] == "#[cfg(test)]"
                && (pair[1] == format!("mod {module};")
                    || pair[1] == format!("pub(crate) mod {module};"))
        })
    })
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails with the list of problems, if there are any.
fn report(problems: Vec<String>) {
    assert!(
        problems.is_empty(),
        "{} problems:\n  {}",
        problems.len(),
        problems.join("\n  ")
    );
}

/// A source line without strings and comments, as far as a line can tell.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => drop(characters.next()),
            '"' => in_string = !in_string,
            '\'' if !in_string && characters.peek() == Some(&'"') => {
                // The character literal '"'.
                characters.next();
                characters.next();
            }
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => code.push(character),
        }
    }
    code
}

/// The lines of a file up to its unit tests, with their numbers.
fn lines_before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

#[test]
fn a_layer_uses_only_those_before_it() {
    let position = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    let mut problems = Vec::new();
    for name in product_files() {
        let inside = name.trim_start_matches("src/");
        let layer = inside
            .split('/')
            .next()
            .unwrap_or(inside)
            .trim_end_matches(".rs");
        if ["lib", "main", "build"].contains(&layer) {
            continue;
        }
        let Some(own) = position(layer) else {
            problems.push(format!(
                "{name}: `{layer}` is not one of the layers {LAYERS:?}"
            ));
            continue;
        };
        let text = read(&name);
        for (number, line) in lines_before_tests(&text) {
            let code = code_of(line);
            for (at, _) in code.match_indices("crate::") {
                let path = &code[at + "crate::".len()..];
                // `use crate::{a, b::c}` names several layers.
                let parts: Vec<&str> = match path.strip_prefix('{') {
                    Some(list) => list.trim_end_matches(['}', ';']).split(',').collect(),
                    None => vec![path],
                };
                for part in parts {
                    let used: String = part
                        .trim()
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect();
                    let excepted = LAYER_EXCEPTIONS
                        .iter()
                        .any(|(from, to, _)| *from == layer && *to == used);
                    match position(&used) {
                        Some(other) if other > own && !excepted => problems.push(format!(
                            "{name}:{number}: `{layer}` uses the later layer `{used}`"
                        )),
                        Some(_) => {}
                        None if used.is_empty() => problems.push(format!(
                            "{name}:{number}: a list of layers over several lines; name each in a `use` of its own"
                        )),
                        // A re-export of the crate root hides the layer.
                        None => problems.push(format!(
                            "{name}:{number}: `crate::{used}` is not a layer; name the module that defines it"
                        )),
                    }
                }
            }
        }
    }
    report(problems);
}

#[test]
fn every_file_says_what_it_is() {
    let mut problems = Vec::new();
    for folder in ["src", "spec-tests", "benches"] {
        if !root().join(folder).exists() {
            continue;
        }
        for name in files(folder, "rs") {
            let text = read(&name);
            if !text.starts_with("//!") {
                problems.push(format!("{name} does not begin with `//!` documentation"));
            }
        }
    }
    report(problems);
}

#[test]
fn files_are_short() {
    let mut problems = Vec::new();
    for folder in ["src", "spec-tests"] {
        for name in files(folder, "rs") {
            let lines = read(&name).lines().count();
            let excepted = LONG_FILES.iter().any(|(long, _)| *long == name);
            if lines > MOST_LINES && !excepted {
                problems.push(format!("{name} has {lines} lines, more than {MOST_LINES}"));
            }
            if lines <= MOST_LINES && excepted {
                problems.push(format!("{name} is short now: take it off the list"));
            }
        }
    }
    for (name, _) in LONG_FILES {
        if !root().join(name).exists() {
            problems.push(format!("{name} does not exist: take it off the list"));
        }
    }
    report(problems);
}

#[test]
fn guest_controlled_layers_do_not_unwrap() {
    let mut problems = Vec::new();
    for name in product_files() {
        if !NO_UNWRAP.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let text = read(&name);
        for (number, line) in lines_before_tests(&text) {
            let code = code_of(line);
            for shortcut in [
                ".unwrap()",
                ".expect(",
                "unreachable!(",
                "todo!(",
                "unimplemented!(",
            ] {
                if code.contains(shortcut) {
                    problems.push(format!(
                        "{name}:{number}: `{shortcut}` in a layer with guest-controlled data"
                    ));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn nothing_is_left_to_do() {
    let mut problems = Vec::new();
    for name in product_files() {
        let text = read(&name);
        for (number, line) in lines_before_tests(&text) {
            let code = code_of(line);
            for unfinished in ["todo!(", "unimplemented!(", "dbg!("] {
                if code.contains(unfinished) {
                    problems.push(format!("{name}:{number}: `{unfinished}`"));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn unsafe_code_stays_in_its_folders_and_says_why_it_is_sound() {
    let mut problems = Vec::new();
    for name in files("src", "rs") {
        let text = read(&name);
        let lines: Vec<&str> = text.lines().collect();
        let may = UNSAFE_FOLDERS.iter().any(|folder| name.starts_with(folder));
        for (index, line) in lines.iter().enumerate() {
            let code = code_of(line);
            let has_unsafe = code
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe");
            if !has_unsafe {
                continue;
            }
            if !may {
                problems.push(format!(
                    "{name}:{}: unsafe code outside {UNSAFE_FOLDERS:?}",
                    index + 1
                ));
                continue;
            }
            let is_block = code.contains("unsafe {") || code.contains("unsafe impl");
            if is_block && !has_safety_comment(&lines, index) {
                problems.push(format!("{name}:{}: no `SAFETY:` comment", index + 1));
            }
        }
    }
    report(problems);
}

/// Whether a `SAFETY:` comment stands on the line or right above the statement that contains it.
/// A macro's calling convention may be explained once for the blocks in it, at most 12 lines above.
fn has_safety_comment(lines: &[&str], index: usize) -> bool {
    let first = index.saturating_sub(12);
    lines[first..=index]
        .iter()
        .any(|line| line.contains("SAFETY:"))
}

#[test]
fn files_outside_the_unsafe_folders_forbid_it() {
    let mut problems = Vec::new();
    for name in product_files() {
        let checked = NO_UNWRAP.iter().any(|folder| name.starts_with(folder));
        if checked && !read(&name).contains("#![forbid(unsafe_code)]") {
            problems.push(format!("{name} does not say `#![forbid(unsafe_code)]`"));
        }
    }
    report(problems);
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let entries = fs::read_dir(root()).unwrap_or_else(|error| panic!("{error}"));
    let mut problems = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            problems.push(format!("`{name}` does not belong to the top level"));
        }
    }
    report(problems);
}

/// Names under `[dependencies]` in Cargo.toml, with whether each is optional.
fn dependencies() -> Vec<(String, bool)> {
    let text = read("Cargo.toml");
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| {
            let line = line.trim();
            let (name, rest) = line.split_once('=')?;
            (!line.starts_with('#'))
                .then(|| (name.trim().to_owned(), rest.contains("optional = true")))
        })
        .collect()
}

#[test]
fn the_core_has_three_dependencies() {
    let needed: BTreeSet<String> = dependencies()
        .into_iter()
        .filter(|(_, optional)| !optional)
        .map(|(name, _)| name)
        .collect();
    let expected: BTreeSet<String> = CORE_DEPENDENCIES
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(needed, expected);
    let optional = dependencies()
        .iter()
        .filter(|(_, optional)| *optional)
        .count();
    assert!(
        optional > 0,
        "the optional dependencies were not found: is Cargo.toml read rightly?"
    );
}

#[test]
fn cargo_agrees_that_the_core_has_three_dependencies() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--no-default-features",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--depth",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("cargo tree: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found: BTreeSet<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(found, CORE_DEPENDENCIES.iter().copied().collect());
}

#[test]
fn no_file_names_a_registry_host() {
    // Written in parts, so that this file does not name them either.
    let hosts = [
        ["crates", ".io"].concat(),
        ["registry.npmjs", ".org"].concat(),
        ["files.pythonhosted", ".org"].concat(),
        ["pypi", ".org"].concat(),
        ["proxy.golang", ".org"].concat(),
    ];
    let mut problems = Vec::new();
    let mut names = vec!["Cargo.toml".to_owned()];
    for (folder, extension) in [
        ("src", "rs"),
        ("spec-tests", "rs"),
        ("benches", "rs"),
        ("fixtures", "toml"),
        ("fixtures", "md"),
    ] {
        if root().join(folder).exists() {
            names.extend(files(folder, extension));
        }
    }
    for name in ["README.md", ".ci/run", ".cargo/config.toml"] {
        if root().join(name).exists() {
            names.push(name.to_owned());
        }
    }
    for name in names {
        let text = read(&name);
        for host in &hosts {
            if text.contains(host.as_str()) {
                problems.push(format!("{name} names the registry host `{host}`"));
            }
        }
    }
    report(problems);
}

/// The rules of the book for this ABI: letter and number of the last one.
const RULES: &[(char, u32)] = &[
    ('P', 13),
    ('S', 10),
    ('N', 8),
    ('L', 14),
    ('R', 14),
    ('G', 8),
    ('B', 4),
    ('I', 9),
    ('D', 18),
    ('U', 8),
    ('X', 7),
    ('T', 8),
    ('M', 2),
    ('C', 7),
    ('Q', 4),
];

/// The rows of all tables of a text in Markdown, without heads and rules: cells without blanks around.
fn table_rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .enumerate()
        .filter(|(index, line)| {
            let is_head = lines
                .get(index + 1)
                .is_some_and(|next| next.starts_with("|---"));
            line.starts_with("| ") && !is_head
        })
        .map(|(_, line)| {
            let inside = line.trim_matches('|');
            inside
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The parts of a cell in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Names of all test functions, without the modules they lie in.
fn test_functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "spec-tests"] {
        for file in files(folder, "rs") {
            let text = read(&file);
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line != "#[test]" {
                    continue;
                }
                let name = lines
                    .by_ref()
                    .find_map(|line| line.strip_prefix("fn ")?.split('(').next());
                names.extend(name.map(str::to_owned));
            }
        }
    }
    names
}

/// Whether a name is that of a fixture or a test function; else the problem.
fn shown_by(name: &str, tests: &BTreeSet<String>) -> Result<(), String> {
    let fixture = root().join("fixtures").join(name).join("case.toml");
    if fixture.is_file() || tests.contains(name) {
        return Ok(());
    }
    Err(format!("`{name}` is neither a fixture nor a test function"))
}

#[test]
fn every_rule_of_the_linker_has_a_row_with_tests_that_exist() {
    let tests = test_functions();
    let mut problems = Vec::new();
    let mut missing: BTreeSet<String> = RULES
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")))
        .collect();
    for row in table_rows(&read("src/link/rules.md")) {
        let [rule, asks, place, shown] = row.as_slice() else {
            problems.push(format!("a row of {} cells: {row:?}", row.len()));
            continue;
        };
        if !missing.remove(rule) {
            problems.push(format!("`{rule}` is no rule, or has a row already"));
        }
        if asks.is_empty() {
            problems.push(format!("{rule}: it does not say what the rule asks"));
        }
        for file in quoted(place).iter().filter(|name| name.ends_with(".rs")) {
            let is_there = ["src/", "src/link/"]
                .iter()
                .any(|folder| root().join(folder).join(file).is_file());
            if !is_there {
                problems.push(format!("{rule}: there is no file `{file}`"));
            }
        }
        let names = quoted(shown);
        if names.is_empty() && !shown.contains("later: with") {
            problems.push(format!("{rule}: no test, and no reason why"));
        }
        for name in names {
            if let Err(problem) = shown_by(name, &tests) {
                problems.push(format!("{rule}: {problem}"));
            }
            // A fixture says itself what it tests.
            let case = root().join("fixtures").join(name).join("case.toml");
            let says = fs::read_to_string(case).map_or(true, |text| {
                text.lines().any(|line| {
                    line.starts_with("rules = ") && line.contains(&format!("\"{rule}\""))
                })
            });
            if !says {
                problems.push(format!("{rule}: the fixture `{name}` does not list it"));
            }
        }
    }
    problems.extend(missing.iter().map(|rule| format!("{rule} has no row")));
    report(problems);
}

/// Cases of the list in `fixtures/README.md`; fewer mean that some were lost.
const LISTED_CASES: usize = 150;

#[test]
fn every_listed_behaviour_has_a_fixture_or_a_reason() {
    let tests = test_functions();
    let text = read("fixtures/README.md");
    let list = text.split("\n# The list").nth(1).unwrap_or_default();
    let mut problems = Vec::new();
    let mut count = 0;
    for row in table_rows(list) {
        let [behaviours, shown] = row.as_slice() else {
            problems.push(format!("a row of {} cells: {row:?}", row.len()));
            continue;
        };
        count += behaviours.split(',').count();
        let names = quoted(shown);
        if names.is_empty() && !shown.starts_with("no: ") {
            problems.push(format!("{behaviours}: neither a fixture nor a reason"));
        }
        for name in names {
            if let Err(problem) = shown_by(name, &tests) {
                problems.push(format!("{behaviours}: {problem}"));
            }
        }
    }
    if count < LISTED_CASES {
        problems.push(format!(
            "{count} behaviours, expected at least {LISTED_CASES}"
        ));
    }
    report(problems);
}

#[test]
fn every_fixture_is_in_the_table_of_what_is_built() {
    let table = read("fixtures/build-table.sh");
    let built: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("fixture "))
        .collect();
    let mut problems = Vec::new();
    let entries = fs::read_dir(root().join("fixtures")).unwrap_or_else(|error| panic!("{error}"));
    for entry in entries
        .flatten()
        .filter(|entry| entry.path().join("case.toml").is_file())
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !built.contains(name.as_str()) {
            problems.push(format!("`{name}` is not in build-table.sh"));
        }
    }
    report(problems);
}

#[test]
fn the_code_of_a_line_leaves_out_strings_and_comments() {
    assert_eq!(
        code_of(r#"let a = "unsafe { \" }"; // unsafe"#).trim(),
        "let a = ;"
    );
    assert_eq!(code_of("unsafe { x() }"), "unsafe { x() }");
}
