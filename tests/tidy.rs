//! The house rules that do not stay true by themselves. Each check is a function from text to
//! complaints; the tests at the end show each check a sample that it must complain about.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The only files that may say `unsafe`, and how often. A change here is a decision.
const UNSAFE: &[(&str, usize)] = &[
    ("src/clock.rs", 2),             // adjtimex
    ("src/packet/filter.rs", 9),     // libpcap's filter with the packet's true length
    ("src/pcapng/copy.rs", 3),       // stores past the cache
    ("src/recorder/blocks.rs", 3),   // the kernel's buffer
    ("src/recorder/open.rs", 1),     // libpcap's descriptor
    ("src/recorder/mapping.rs", 1),  // huge pages
    ("src/recorder/priority.rs", 2), // the scheduling policy, the class of I/O
    ("src/recorder/slots.rs", 6),    // mapped memory
    ("src/recorder/socket.rs", 4),   // packet socket options
];

/// What the source must not say, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("TODO", "do it, or write it down where it is tracked"),
    ("FIXME", "fix it"),
    ("next_packet(", "one poll a packet: use dispatch"),
    (
        "thread::sleep",
        "wait on a channel, a condition or a file descriptor",
    ),
    (".unwrap_unchecked(", "prove it to the compiler"),
    ("mem::transmute", "use from_le_bytes, bytemuck or a match"),
];

/// A source file: its path below the root, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of an extension below `folder`, as git would list them: no build products.
fn sources(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                let skipped = ["target", "node_modules", "dist", "var"].contains(&name.as_str());
                if !skipped && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let relative = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    path: relative,
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The lines of code: comments (which may name anything) left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
}

/// The word that begins `text`.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    end.map_or(text, |end| &text[..end])
}

// -- layers ---------------------------------------------------------------------------------

/// The rank of each module, from the table in the documentation of lib.rs. The modules of the last
/// row may import anything, and nothing imports them.
fn layers(lib: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let rows: Vec<Vec<String>> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|row| {
            let cell = row.split('|').next().unwrap_or_default();
            cell.split(',')
                .map(|name| word(name.trim().trim_start_matches("[`")).to_owned())
                .collect()
        })
        .collect();
    let top = rows.last().cloned().unwrap_or_default();
    let ranks = rows.into_iter().flatten().zip(0..).collect();
    (ranks, top)
}

fn layering(lib: &str, sources: &[Source]) -> Vec<String> {
    let (ranks, top) = layers(lib);
    let mut complaints = Vec::new();
    for line in lib.lines() {
        if let Some(name) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod "))
            && !ranks.contains_key(word(name))
        {
            complaints.push(format!(
                "src/lib.rs: {} has no row in the table of layers",
                word(name)
            ));
        }
    }
    for source in sources {
        let below = source.path.strip_prefix("src/").unwrap_or(&source.path);
        let module = word(below);
        let Some(&rank) = ranks.get(module) else {
            continue;
        };
        // A layer's own tests may put it together with anything.
        let test = below.contains("/tests/") || below.ends_with("tests.rs");
        if test || top.iter().any(|name| name == module) {
            continue;
        }
        for (line, code) in code(&source.text) {
            for (at, _) in code.match_indices("crate::") {
                let target = word(&code[at + "crate::".len()..]);
                if ranks.get(target).is_some_and(|&imported| imported > rank) {
                    complaints.push(format!(
                        "{}:{line}: {module} imports {target}, a later layer",
                        source.path
                    ));
                }
            }
        }
    }
    complaints
}

#[test]
fn a_module_imports_only_from_layers_before_it() {
    assert_tidy(&layering(&read("src/lib.rs"), &sources("src", "rs")));
}

// -- unsafe ---------------------------------------------------------------------------------

fn unsafety(allowed: &[(&str, usize)], sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let lines: Vec<&str> = source.text.lines().collect();
        let mut count = 0;
        for (line, code) in code(&source.text) {
            let said = code.match_indices("unsafe").any(|(at, _)| {
                word(&code[at..]) == "unsafe" && !code[..at].ends_with(['_', '"', '\''])
            });
            if !said {
                continue;
            }
            count += 1;
            let before = lines
                .get(line.saturating_sub(8)..line - 1)
                .unwrap_or_default();
            // A foreign declaration promises nothing; the blocks that use it do.
            let foreign = code.contains("unsafe extern");
            if !foreign && !before.iter().any(|line| line.contains("// SAFETY:")) {
                complaints.push(format!("{}:{line}: unsafe without its SAFETY", source.path));
            }
        }
        let granted = allowed
            .iter()
            .find(|(path, _)| *path == source.path)
            .map_or(0, |(_, n)| *n);
        if count != granted {
            complaints.push(format!(
                "{}: says unsafe {count} times, {granted} granted",
                source.path
            ));
        }
    }
    for (path, _) in allowed {
        if !sources.iter().any(|source| source.path == *path) {
            complaints.push(format!("{path} may say unsafe, but is not there"));
        }
    }
    complaints
}

#[test]
fn unsafe_stands_in_named_files_with_its_argument() {
    assert_tidy(&unsafety(UNSAFE, &sources("src", "rs")));
}

// -- words, heads, reachability ---------------------------------------------------------------

fn banned(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            for (word, instead) in BANNED {
                if line.contains(word) {
                    complaints.push(format!("{}:{}: {word}: {instead}", source.path, at + 1));
                }
            }
        }
    }
    complaints
}

#[test]
fn the_source_says_no_banned_word() {
    let mut all = sources("src", "rs");
    all.retain(|source| !source.path.contains("/tests"));
    assert_tidy(&banned(&all));
}

fn heads(sources: &[Source]) -> Vec<String> {
    let headless = sources
        .iter()
        .filter(|source| !source.text.starts_with("//!"));
    headless
        .map(|source| format!("{}: does not begin with //!", source.path))
        .collect()
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests", "benches", "fixtures"] {
        assert_tidy(&heads(&sources(folder, "rs")));
    }
}

/// Files that no `mod` names: the compiler does not see them, so nobody does.
fn unreachable(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let path = Path::new(&source.path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap();
        let (folder, name) = if name == "mod" {
            let own = folder.file_name().unwrap().to_string_lossy().into_owned();
            (folder.parent().unwrap(), own)
        } else {
            (folder, name)
        };
        if folder == Path::new("src") && ["lib", "main"].contains(&name.as_str()) {
            continue;
        }
        let parents = ["mod.rs", "lib.rs"].map(|file| folder.join(file));
        let beside = folder.with_extension("rs");
        let named = sources
            .iter()
            .filter(|other| {
                parents
                    .iter()
                    .chain([&beside])
                    .any(|parent| Path::new(&other.path) == parent)
            })
            .any(|parent| {
                parent
                    .text
                    .lines()
                    .any(|line| line.contains(&format!("mod {name};")))
            });
        if !named {
            complaints.push(format!("{}: no parent says `mod {name};`", source.path));
        }
    }
    complaints
}

#[test]
fn every_file_is_part_of_the_program() {
    assert_tidy(&unreachable(&sources("src", "rs")));
}

// -- documents that must agree ------------------------------------------------------------------

fn titles(documents: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in documents {
        let mut fenced = false;
        let mut titles = 0;
        for line in document.text.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            }
            titles += usize::from(!fenced && line.starts_with("# "));
        }
        if titles != 1 {
            complaints.push(format!("{}: {titles} titles, one is right", document.path));
        }
    }
    complaints
}

#[test]
fn every_page_has_one_title() {
    assert_tidy(&titles(&sources("", "md")));
}

/// What stands between `open` and the next `"` after it.
fn quoted<'a>(text: &'a str, open: &str) -> Vec<&'a str> {
    text.match_indices(open)
        .filter_map(|(at, _)| text[at + open.len()..].split('"').next())
        .collect()
}

fn routes(sources: &[Source], page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        // rustfmt may break the line after the parenthesis.
        let text: String = source
            .text
            .replace(".route(\n", ".route(")
            .split_inclusive('\n')
            .collect();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let squeezed = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("( \"", "(\"");
        for route in quoted(&squeezed, ".route(\"") {
            // An inner router is nested below /api/v1; the page shows the whole path.
            if !page.contains(&format!("{route}`")) && !page.contains(&format!("{route}?")) {
                complaints.push(format!(
                    "{}: the route {route} is not in docs/API.md",
                    source.path
                ));
            }
        }
    }
    complaints
}

#[test]
fn every_route_is_in_the_api_page() {
    assert_tidy(&routes(&sources("src/web", "rs"), &read("docs/API.md")));
}

/// The fields of structs that refuse unknown fields: what people write in a configuration file.
fn keys(source: &Source) -> Vec<String> {
    let mut keys = Vec::new();
    let mut wanted = false;
    let mut inside = false;
    let mut renamed = None;
    for (_, line) in code(&source.text) {
        let line = line.trim();
        wanted |= line.contains("deny_unknown_fields");
        if wanted && line.contains("struct ") && line.ends_with('{') {
            (wanted, inside) = (false, true);
        } else if inside && line == "}" {
            inside = false;
        } else if inside && line.starts_with('#') {
            renamed = quoted(line, "rename = \"").first().copied().or(renamed);
        } else if inside && let Some((name, _)) = line.split_once(": ") {
            let name = name.rsplit(' ').next().unwrap_or_default();
            keys.push(renamed.take().unwrap_or(name).to_owned());
        }
    }
    keys
}

fn undocumented_keys(sources: &[Source], page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for key in keys(source) {
            // A key, or a table of keys.
            let spellings = [
                format!("`{key}`"),
                format!("`[{key}]`"),
                format!("`[[{key}]]`"),
            ];
            if !spellings.iter().any(|spelling| page.contains(spelling)) {
                complaints.push(format!("{}: the key {key} is not documented", source.path));
            }
        }
    }
    complaints
}

#[test]
fn every_configuration_key_is_in_the_configuration_page() {
    let mut all = sources("src", "rs");
    all.retain(|source| !source.path.starts_with("src/web/") || source.path.contains("config"));
    assert_tidy(&undocumented_keys(&all, &read("docs/CONFIG.md")));
}

/// Names of registered metrics; their unit and `_total` are added by the registry.
fn metrics(sources: &[Source], page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let squeezed = source.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let squeezed = squeezed.replace("( \"", "(\"");
        for open in [".register(\"", ".register_with_unit(\""] {
            for name in quoted(&squeezed, open) {
                if !page.contains(&format!("`wirewitness_{name}")) {
                    let path = &source.path;
                    complaints.push(format!(
                        "{path}: the metric {name} is not in docs/RUNBOOK.md"
                    ));
                }
            }
        }
    }
    complaints
}

#[test]
fn every_metric_is_in_the_runbook() {
    let mut all = sources("src", "rs");
    all.retain(|source| source.path.contains("metrics"));
    assert_tidy(&metrics(&all, &read("docs/RUNBOOK.md")));
}

fn exit_codes(sources: &[Source], page: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (at, _) in source.text.match_indices("ExitCode::from(") {
            let number = word(&source.text[at + "ExitCode::from(".len()..]);
            if number.parse::<u8>().is_ok() && !page.contains(&format!("| {number} |")) {
                complaints.push(format!(
                    "{}: exit code {number} is not in README.md",
                    source.path
                ));
            }
        }
    }
    complaints
}

#[test]
fn every_exit_code_is_in_the_readme() {
    assert_tidy(&exit_codes(&sources("src", "rs"), &read("README.md")));
}

fn changelog(manifest: &str, changelog: &str) -> Vec<String> {
    let version = quoted(manifest, "\nversion = \"")
        .first()
        .copied()
        .unwrap_or("none");
    let there = changelog
        .lines()
        .any(|line| line.starts_with(&format!("## [{version}]")));
    if there {
        vec![]
    } else {
        vec![format!("CHANGELOG.md: no section for version {version}")]
    }
}

#[test]
fn the_changelog_knows_this_version() {
    assert_tidy(&changelog(&read("Cargo.toml"), &read("CHANGELOG.md")));
}

fn reasons(manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && line.contains(" = ") && !line.contains(" # ") && !line.starts_with('#')
        {
            complaints.push(format!("Cargo.toml: no reason for {}", word(line)));
        }
    }
    complaints
}

#[test]
fn every_dependency_has_its_reason() {
    assert_tidy(&reasons(&read("Cargo.toml")));
}

#[test]
fn every_fixture_is_explained() {
    let page = read("fixtures/README.md");
    let mut complaints = Vec::new();
    for entry in fs::read_dir(root().join("fixtures")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name != "README.md" && !page.contains(&format!("`{name}")) {
            complaints.push(format!("fixtures/README.md does not explain {name}"));
        }
    }
    assert_tidy(&complaints);
}

// -- the checks themselves ----------------------------------------------------------------------

fn sample(path: &str, text: &str) -> Vec<Source> {
    vec![Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }]
}

const SAMPLE_LIB: &str = "//! | layer | holds |\n//! | [`time`], [`error`] | words |\n\
    //! | [`ring`] | segments |\n//! | [`cli`] | assembly |\npub mod time;\n";

#[test]
fn the_checks_find_what_was_planted() {
    let later = sample("src/time.rs", "//! t\nuse crate::ring::Segment;\n");
    assert_eq!(layering(SAMPLE_LIB, &later).len(), 1);
    let top = sample("src/ring/mod.rs", "//! r\nlet a = crate::cli::run();\n");
    assert_eq!(layering(SAMPLE_LIB, &top).len(), 1);
    assert_eq!(
        layering(&format!("{SAMPLE_LIB}pub mod stray;\n"), &[]).len(),
        1
    );

    let bare = sample("src/a.rs", "//! a\nfn f() { unsafe { g() } }\n");
    assert_eq!(unsafety(&[("src/a.rs", 1)], &bare).len(), 1);
    let argued = sample("src/a.rs", "//! a\n// SAFETY: because\nunsafe { g() }\n");
    assert_eq!(unsafety(&[], &argued).len(), 1);

    assert_eq!(banned(&sample("src/a.rs", "// TODO: later\n")).len(), 1);
    assert_eq!(heads(&sample("src/a.rs", "fn f() {}\n")).len(), 1);
    assert_eq!(
        unreachable(&sample("src/lost/deep.rs", "//! lost\n")).len(),
        1
    );
    assert_eq!(titles(&sample("a.md", "# One\n# Two\n")).len(), 1);
    let route = sample(
        "src/web/a.rs",
        "//! a\nr.route(\n    \"/api/v1/new\",\n    get(f));\n",
    );
    assert_eq!(routes(&route, "`GET /api/v1/old`").len(), 1);
    let key =
        "//! a\n#[serde(default, deny_unknown_fields)]\npub struct A {\n    pub size: u64,\n}\n";
    assert_eq!(
        undocumented_keys(&sample("src/a.rs", key), "`path`").len(),
        1
    );
    let renamed = key.replace("    pub", "    #[serde(rename = \"match\")]\n    pub");
    assert_eq!(keys(&sample("src/a.rs", &renamed)[0]), ["match"]);
    assert_eq!(
        metrics(
            &sample("src/a.rs", "r.register(\n \"x\", \"X\", x);"),
            "`wirewitness_y_total`"
        )
        .len(),
        1
    );
    assert_eq!(
        exit_codes(&sample("src/a.rs", "ExitCode::from(9)"), "| 1 |").len(),
        1
    );
    assert_eq!(
        changelog("\nversion = \"1.2.3\"\n", "## [1.2.2]\n").len(),
        1
    );
    assert_eq!(reasons("[dependencies]\nserde = \"1\"\n").len(), 1);
}

#[test]
fn the_checks_are_silent_about_what_is_right() {
    let earlier = sample(
        "src/ring/mod.rs",
        "//! [`crate::cli`]\nuse crate::time::Timestamp;\n",
    );
    assert_eq!(layering(SAMPLE_LIB, &earlier), [""; 0]);
    let assembly = sample("src/cli/mod.rs", "//! c\nuse crate::ring::Segment;\n");
    assert_eq!(layering(SAMPLE_LIB, &assembly), [""; 0]);
    let argued = sample("src/a.rs", "//! a\n// SAFETY: because\nunsafe { g() }\n");
    assert_eq!(unsafety(&[("src/a.rs", 1)], &argued), [""; 0]);
    let lint = sample(
        "src/a.rs",
        "//! a\n#![deny(unsafe_code)]\n// unsafe in a comment\n",
    );
    assert_eq!(unsafety(&[], &lint), [""; 0]);
    assert_eq!(
        titles(&sample("a.md", "# One\n```sh\n# not a title\n```\n")),
        [""; 0]
    );
    let route = sample(
        "src/web/a.rs",
        "//! a\nr.route(\"/api/v1/a/{id}\", get(f));\n",
    );
    assert_eq!(routes(&route, "`GET /api/v1/a/{id}?x=`"), [""; 0]);
    assert_eq!(
        reasons("[dependencies]\nserde = \"1\" # manifests\n[profile.dev]\ndebug = 1\n"),
        [""; 0]
    );
}
