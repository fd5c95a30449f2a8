//! Labels that the names of files or folders carry.

/// The label of `00_243`: an index, an underscore and the label, all in digits.
///
/// Both must be numbers, so that `img_0001.jpg` is not taken for an image of class 1.
pub(super) fn of_file_stem(stem: &str) -> Option<i64> {
    let (index, label) = stem.split_once('_')?;
    if digits(index) && digits(label) { label.parse().ok() } else { None }
}

/// Labels of class folders in sorted order: the numbers that they are named by, else their positions.
pub(super) fn of_folders(names: &[&str]) -> (Vec<i64>, &'static str) {
    let numbers: Option<Vec<i64>> = names.iter().map(|n| if digits(n) { n.parse().ok() } else { None }).collect();
    match numbers {
        Some(numbers) => (numbers, "the numbers that the class folders are named by"),
        None => ((0..names.len() as i64).collect(), "the positions of the class folders in sorted order"),
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_carry_labels_only_as_index_and_number() {
        for (stem, expect) in [
            ("00_243", Some(243)),
            ("7_0", Some(0)),
            ("img_0001", None),
            ("00_cat", None),
            ("00_1_2", None),
            ("00_", None),
            ("_1", None),
            ("000", None),
            ("0_-1", None),
            ("0_99999999999999999999", None),
        ] {
            assert_eq!(of_file_stem(stem), expect, "{stem}");
        }
    }

    #[test]
    fn folders_are_numbered_by_name_or_position() {
        assert_eq!(of_folders(&["0", "10", "2"]).0, [0, 10, 2]);
        assert_eq!(of_folders(&["cat", "dog"]).0, [0, 1]);
        assert_eq!(of_folders(&["1", "dog"]).0, [0, 1]);
    }
}
