//! The generated part of a document in `docs`, between two markers. For tests.

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

/// Compares the generated part of a document with what the code generates. With `UPDATE_DOCS` set, writes it first.
pub fn verify(path: &str, generated: &str) {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    let stored = std::fs::read_to_string(&path).expect("the document is part of the checkout");
    let (before, rest) = stored.split_once(BEGIN).expect("a document has the first marker");
    let (_, after) = rest.split_once(END).expect("a document has the second marker");
    let current = format!("{before}{BEGIN}{generated}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &current).expect("a checkout can be written");
        return;
    }
    assert!(stored == current, "{path} is out of date: UPDATE_DOCS=1 updates it");
}
