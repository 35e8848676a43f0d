//! The example of embedding (`fixtures/programs/tree-sitter`): web-tree-sitter's parser as main module, grammars as side
//! modules. Syntax trees are compared with those of the official JavaScript API for the same text.
//!
//! The packages are fetched into the user's cache. `BLESS=1` asks the official API anew, under node, and writes what it
//! says beside the samples (`*.expected`, `generated.txt`); the tests themselves need no node.

#![forbid(unsafe_code)]

#[path = "../fixtures/programs/tree-sitter/languages.rs"]
#[expect(dead_code, reason = "the tests name languages, not files")]
mod languages;
#[path = "../fixtures/programs/tree-sitter/parser.rs"]
mod parser;

#[path = "tree_sitter/generate.rs"]
mod generate;

use dynlink::cli::packages::PackageCache;
use languages::{COLLECTION, Language, PARSER, Source, parser_module};
use parser::Parser;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Least length of the generated texts.
const GENERATED_BYTES: usize = 100 * 1024;

/// The last official version that takes grammars with the older section.
const OLDER_API: Source = Source {
    name: "web-tree-sitter",
    version: "0.25.10",
    sha256: "6636457aca5e6945fb73671362ae19c9c4e513bb516a53d58c4a2b4d12533e0f",
};

fn cache() -> PackageCache {
    PackageCache::of_user().expect("a place for packages")
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs/tree-sitter/samples")
}

fn new_parser() -> Parser {
    Parser::new(&parser_module(&cache()).expect("the parser's package")).expect("a parser")
}

/// The syntax tree of a text, by a parser of its own.
fn parsed(language: &str, text: &str) -> String {
    let file = grammar(language);
    let mut parser = new_parser();
    let grammar = parser.load(language, &file).expect(language);
    parser.parse(&grammar, text).expect(language)
}

fn grammar(language: &str) -> PathBuf {
    let language = Language::named(language).expect("a language");
    language.grammar(&cache()).expect("the grammar's package")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// What the official API says; `None` if it cannot load or run the grammar.
fn official(source: &Source, file: &str, grammar: &Path, text: &Path) -> Option<String> {
    let wasm = file.replace(".js", ".wasm");
    let folder = source.folder(&cache(), &[file, &wasm, "package.json"]);
    let script = samples().join("../official.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(folder.expect("the official API").join(file))
        .args([grammar, text])
        .output()
        .expect("node runs");
    let text = String::from_utf8(output.stdout).expect("an expression");
    output.status.success().then_some(text)
}

/// Compares the tree of a sample with what the official API said.
#[track_caller]
fn check_sample(language: &str, file: &str) {
    let path = samples().join(file);
    let expected = samples().join(format!("{file}.expected"));
    if blessing() {
        let said = official(&PARSER, "web-tree-sitter.js", &grammar(language), &path);
        fs::write(&expected, said.expect("the official API parses it")).expect("a file");
    }
    assert_eq!(parsed(language, &read(&path)), read(&expected), "{file}");
}

/// Compares the tree of a generated text with the checksum of what the official API said.
#[track_caller]
fn check_generated(language: &str, grammar_of_texts: &str) {
    let text = generate::text(grammar_of_texts, GENERATED_BYTES);
    let list = samples().join("generated").join(language);
    if blessing() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &text).expect("a file");
        let said = official(
            &PARSER,
            "web-tree-sitter.js",
            &grammar(language),
            file.path(),
        )
        .expect("the official API parses it");
        let contents = format!("{}\n{}\n", digest(&text), digest(&said));
        fs::create_dir_all(samples().join("generated")).expect("a folder");
        fs::write(&list, contents).expect("a file");
    }
    let said = read(&list);
    let (text_digest, tree_digest) = said.split_once('\n').expect("two lines");
    assert_eq!(
        digest(&text),
        text_digest,
        "the generator gives another text"
    );
    let tree = parsed(language, &text);
    // Far from being one big error.
    let nodes = tree.matches('(').count();
    assert!(nodes > 10_000, "{language}: {nodes} nodes: {tree:.500}");
    assert_eq!(digest(&tree), tree_digest.trim_end(), "{language}");
}

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! languages {
    ($($module:ident $language:literal $extension:literal $texts:ident;)*) => { $(
        mod $module {
            #[test]
            fn a_sample_is_parsed_as_by_the_official_api() {
                super::check_sample($language, concat!("sample.", $extension));
            }

            #[test]
            fn errors_are_recovered_from_as_by_the_official_api() {
                super::check_sample($language, concat!("broken.", $extension));
            }

            #[test]
            fn a_text_of_100_kb_is_parsed_as_by_the_official_api() {
                super::check_generated($language, super::generate::$texts);
            }
        }
    )* };
}

languages! {
    json "json" "json" JSON;
    javascript "javascript" "js" JAVASCRIPT;
    c "c" "c" C;
    python "python" "py" PYTHON;
    rust "rust" "rs" RUST;
    bash "bash" "sh" BASH;
}

fn older_grammar(language: &str) -> PathBuf {
    let folder = COLLECTION.folder(&cache(), &["out"]).expect("the package");
    folder.join(format!("out/tree-sitter-{language}.wasm"))
}

/// The small sample of a language of the collection.
fn older_sample(language: &str) -> PathBuf {
    let files = fs::read_dir(samples().join("collection")).expect("a folder");
    files
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_stem().is_some_and(|stem| stem == language)
                && path
                    .extension()
                    .is_some_and(|extension| extension != "expected")
        })
        .unwrap_or_else(|| panic!("there is no sample for {language}"))
}

/// What the parser says about grammars of versions before 13, of which the collection has two.
const TOO_OLD: &[(&str, u32)] = &[("elm", 12), ("ql", 10)];

/// Parsed here, but not by the official API, whose linker has no C++ library for it.
const OURS_ALONE: &[&str] = &["yaml"];

#[test]
fn the_36_grammars_with_the_older_section_load_and_parse() {
    let mut compared = 0;
    let languages = older_languages();
    for language in &languages {
        let file = older_grammar(language);
        let bytes = fs::read(&file).expect("the grammar");
        assert!(
            bytes.windows(7).take(32).any(|name| name == b"\x06dylink"),
            "{language} has another section"
        );
        // One of them (lua) reads memory that it has not written, so each gets a fresh parser, as from the official API.
        let mut parser = new_parser();
        let grammar = parser.load(language, &file).expect(language);
        let sample = older_sample(language);
        let tree = parser.parse(&grammar, &read(&sample));
        if let Some((_, version)) = TOO_OLD.iter().find(|(name, _)| name == language) {
            let error = tree.expect_err(language).to_string();
            assert!(error.contains(&format!("version {version}")), "{error}");
            continue;
        }
        let tree = tree.expect(language);
        if OURS_ALONE.contains(&language.as_str()) {
            assert!(
                !tree.contains("ERROR") && !tree.contains("MISSING"),
                "{tree}"
            );
            assert_eq!(tree.matches("block_mapping_pair").count(), 5, "{tree}");
            continue;
        }
        let expected = sample.with_extension("expected");
        if blessing() {
            let said = official(&OLDER_API, "tree-sitter.js", &file, &sample);
            fs::write(&expected, said.expect(language)).expect("a file");
        }
        assert_eq!(tree, read(&expected), "{language}");
        compared += 1;
    }
    assert_eq!((languages.len(), compared), (36, 33));
}

/// The languages of the collection.
fn older_languages() -> Vec<String> {
    let folder = COLLECTION.folder(&cache(), &["out"]).expect("the package");
    let files = fs::read_dir(folder.join("out")).expect("a folder");
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_prefix("tree-sitter-")?.strip_suffix(".wasm")?;
            Some(name.to_string())
        })
        .collect();
    names.sort();
    names
}

#[test]
fn all_grammars_live_in_one_process() {
    // Some of them define symbols of the same names; each uses its own.
    let mut parser = new_parser();
    let mut grammars = Vec::new();
    for language in ["json", "javascript", "c", "python", "rust", "bash"] {
        let grammar = parser.load(language, &grammar(language));
        grammars.push((language, grammar.expect(language)));
    }
    let older: Vec<String> = older_languages();
    for language in &older {
        parser
            .load(language, &older_grammar(language))
            .expect(language);
    }
    for (language, grammar) in &grammars {
        let extension = Language::named(language).expect("a language").extensions[0];
        let sample = samples().join(format!("sample.{extension}"));
        let tree = parser.parse(grammar, &read(&sample)).expect(language);
        let expected = samples().join(format!("sample.{extension}.expected"));
        assert_eq!(tree, read(&expected), "{language}");
    }
}

#[test]
fn loading_and_unloading_grammars_leaves_memory_and_table_as_they_were() {
    let mut parser = new_parser();
    let languages = ["json", "c", "javascript", "python"];
    let files: Vec<PathBuf> = languages.iter().map(|language| grammar(language)).collect();
    // The slots of a library that is gone rest for a while before they are used again, so that stale function pointers
    // trap: the table is flat once as many rest as ever do (4,096).
    let rounds = 600;
    let mut sizes = Vec::new();
    for round in 0..rounds {
        // Several at once, unloaded in another order each time.
        let mut loaded: Vec<_> = languages
            .iter()
            .zip(&files)
            .map(|(language, file)| (*language, parser.load(language, file).expect(language)))
            .collect();
        loaded.rotate_left(round % languages.len());
        for (language, grammar) in loaded {
            if round % 50 == 49 {
                let extension = Language::named(language).expect("a language").extensions[0];
                let sample = samples().join(format!("sample.{extension}"));
                let tree = parser.parse(&grammar, &read(&sample)).expect(language);
                let expected = samples().join(format!("sample.{extension}.expected"));
                assert_eq!(tree, read(&expected), "{language} in round {round}");
            }
            parser.unload(grammar).expect(language);
        }
        sizes.push(parser.size());
    }
    assert_eq!(sizes[rounds / 2], sizes[rounds - 1]);
    let (pages, slots) = sizes[rounds - 1];
    assert_eq!(pages, sizes[0].0);
    assert!(slots < sizes[0].1 + 4096 + 64, "{slots}");
}

#[test]
fn a_grammar_is_not_loaded_from_something_else() {
    let mut parser = new_parser();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.wasm");
    for contents in [
        &b"no module"[..],
        b"\0asm\x01\0\0\0",
        &fs::read(grammar("json")).expect("a grammar")[..2000],
    ] {
        fs::write(&path, contents).expect("a file");
        let error = parser.load("json", &path).map(|_| ()).expect_err("refused");
        assert!(error.to_string().contains("broken.wasm"), "{error}");
    }
    // A grammar under the name of another language.
    let error = parser.load("rust", &grammar("c")).map(|_| ());
    let error = error.expect_err("another language").to_string();
    assert!(error.contains("tree_sitter_rust"), "{error}");
    // All that left no trace.
    let json = parser.load("json", &grammar("json")).expect("json");
    assert_eq!(
        parser.parse(&json, "[1]").expect("a tree"),
        "(document (array (number)))"
    );
}
