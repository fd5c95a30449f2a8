//! The node tests of ONNX itself, on the reference evaluator.
//!
//! They live in the `onnx` package: in its folder `backend/test/data/node` up to some release, and as Python code since,
//! which `write_cases.py` beside this file turns into the same folder. The test looks for it in `FEWBIT_ONNX_TESTS`, then
//! in the repository's `.venv`, and passes with a message if there is none.
//!
//! Every case is read by `fewbit-onnx` and run by [`fewbit_runtime::interpret`]. A case must pass, or hold an operator of
//! [`NOT_EXECUTED`], or stand in [`EXCLUDED`] with the reason why; and what stands there must not pass.

mod case;
mod compare;
mod exclusions;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use case::{Case, Outcome};
use exclusions::{EXCLUDED, NOT_EXECUTED};

#[test]
#[allow(clippy::print_stdout, reason = "the count is what the reader of this test wants")]
fn onnx_node_tests() {
    let Some(folder) = find_cases() else {
        println!("skipped: no ONNX node tests; run crates/fewbit/tests/onnx_node_tests/write_cases.py and set FEWBIT_ONNX_TESTS");
        return;
    };
    let mut passed = 0;
    let mut not_executed: BTreeMap<String, usize> = BTreeMap::new();
    let mut excluded: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for name in case_names(&folder) {
        let case = Case::new(&folder, &name);
        let outcome = catch_unwind(|| case.run()).unwrap_or_else(|_| Outcome::Failed("it panicked".into()));
        let reason = EXCLUDED.iter().find(|(pattern, _)| matches(pattern, &name)).map(|(_, reason)| *reason);
        match (outcome, reason) {
            (Outcome::Passed, None) => passed += 1,
            (Outcome::Passed, Some(reason)) => wrong.push(format!("{name} passes, but is excluded: {reason}")),
            (Outcome::NotExecuted(operator), _) if NOT_EXECUTED.contains(&&*operator) => *not_executed.entry(operator).or_default() += 1,
            (_, Some(reason)) => *excluded.entry(reason).or_default() += 1,
            (Outcome::NotExecuted(operator), None) => {
                wrong.push(format!("{name}: {operator} was read as an operator that is not understood"));
            }
            (Outcome::Failed(why), None) => wrong.push(format!("{name}: {why}")),
        }
    }
    println!("{passed} node tests of ONNX pass");
    println!("{} hold an operator that is not executed: {not_executed:?}", not_executed.values().sum::<usize>());
    for (reason, count) in &excluded {
        println!("{count} excluded: {reason}");
    }
    assert!(wrong.is_empty(), "{} cases are not as expected:\n{}", wrong.len(), wrong.join("\n"));
    assert!(passed > 0, "no case in {}", folder.display());
}

/// The folder that holds a folder per case.
fn find_cases() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("FEWBIT_ONNX_TESTS") {
        let folder = PathBuf::from(folder);
        assert!(folder.is_dir(), "FEWBIT_ONNX_TESTS={} is no folder", folder.display());
        return Some(folder);
    }
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    let pythons = std::fs::read_dir(libraries).ok()?;
    let cases = pythons.flatten().map(|python| python.path().join("site-packages/onnx/backend/test/data/node"));
    cases.into_iter().find(|folder| folder.is_dir())
}

fn case_names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder can be listed").flatten();
    entries.filter(|e| e.path().join("model.onnx").is_file()).filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Whether a name fits a pattern, in which a `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let rests = rest.char_indices().map(|(i, _)| &rest[i..]).chain([""]);
            rests.into_iter().any(|rest| matches(after, rest))
        }),
    }
}

#[test]
fn patterns() {
    for (pattern, name, expected) in [
        ("test_a", "test_a", true),
        ("test_a", "test_ab", false),
        ("test_a*", "test_a", true),
        ("*8_to*", "cast_f8_to_f16", true),
        ("a*c", "abd", false),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}
