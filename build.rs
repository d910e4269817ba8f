//! Decides whether the built UI is embedded. It never builds the UI itself: `make` does.

use std::fs;
use std::path::Path;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(ui_built)");
    println!("cargo:rerun-if-changed=build.rs");
    let dist = Path::new("web/dist");
    // An empty folder to watch: a missing one would make cargo rebuild everything every time.
    // On a read-only source tree there is nothing to watch, and nothing will change.
    if fs::create_dir_all(dist).is_ok() {
        println!("cargo:rerun-if-changed=web/dist");
    }
    let Ok(index) = fs::read_to_string(dist.join("index.html")) else {
        return;
    };
    let missing: Vec<_> = referenced(&index)
        .filter(|path| !dist.join(path).is_file())
        .collect();
    if missing.is_empty() {
        println!("cargo:rustc-cfg=ui_built");
    } else {
        println!("cargo:warning=web/dist is only half built ({missing:?} missing); run `make`");
    }
}

/// The files of its own that a page names: `src="/x"`, `href="./x"`.
fn referenced(page: &str) -> impl Iterator<Item = &str> {
    page.split('"').filter_map(|text| {
        let path = text.strip_prefix("./").or_else(|| text.strip_prefix('/'))?;
        (!path.is_empty() && !path.starts_with('/')).then_some(path)
    })
}
