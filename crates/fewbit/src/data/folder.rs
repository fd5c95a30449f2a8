//! A folder of images: which files, in which order, with which labels.
//!
//! In: a path. Out: the image files, sorted by the bytes of their names, and labels where every name carries one.
//! Images lie in the folder itself, or in one sub-folder per class. Names that begin with a dot are passed over.

use std::path::{Path, PathBuf};

use super::argument::{IMAGE_EXTENSIONS, extension};
use super::labels;
use crate::{Error, Result};

/// The images of a folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) files: Vec<PathBuf>,
    /// One label per file, or none at all.
    pub(super) labels: Option<Vec<i64>>,
    /// What the user should know: where labels come from, what was passed over.
    pub(super) notes: Vec<String>,
}

impl Folder {
    /// One image file.
    pub(super) fn of_one(path: &Path) -> Self {
        Self { files: vec![path.to_owned()], ..Self::default() }
    }

    /// Lists a folder; an error where it holds no image.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let entries = Entries::of(path)?;
        let mut folder = Self::default();
        if entries.images.is_empty() {
            folder.take_classes(&entries)?;
        } else {
            if !entries.folders.is_empty() {
                folder.notes.push(format!("{}: sub-folders are passed over, because images lie beside them", path.display()));
            }
            folder.take(path, entries);
        }
        if folder.files.is_empty() {
            let wanted = IMAGE_EXTENSIONS.map(|e| format!(".{e}")).join(", ");
            return Err(Error::data(format!("{} holds no image: looked for {wanted}, there and in its sub-folders", path.display())));
        }
        if folder.labels.is_none() {
            folder.labels = folder.files.iter().map(|f| labels::of_file_stem(f.file_stem()?.to_str()?)).collect();
            if folder.labels.is_some() {
                folder.notes.push(format!("{}: labels are the numbers after the underscore in the file names", path.display()));
            }
        }
        Ok(folder)
    }

    /// One class per sub-folder that holds images.
    fn take_classes(&mut self, entries: &Entries) -> Result<()> {
        let mut classes = Vec::new();
        for folder in &entries.folders {
            let inside = Entries::of(folder)?;
            if !inside.images.is_empty() {
                classes.push((folder, inside));
            }
        }
        let names: Vec<&str> = classes.iter().map(|(f, _)| f.file_name().and_then(|n| n.to_str()).unwrap_or_default()).collect();
        let (numbers, how) = labels::of_folders(&names);
        let mut labels = Vec::new();
        for ((folder, inside), label) in classes.into_iter().zip(numbers) {
            labels.extend(inside.images.iter().map(|_| label));
            self.take(folder, inside);
        }
        if !labels.is_empty() {
            self.notes.push(format!("labels are {how}"));
            self.labels = Some(labels);
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, entries: Entries) {
        if let Some(first) = entries.others.first() {
            let count = entries.others.len();
            self.notes.push(format!("{}: {count} files are no images and are passed over, such as {}", path.display(), first.display()));
        }
        self.files.extend(entries.images);
    }
}

/// What a folder holds, each sorted by name.
struct Entries {
    images: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

impl Entries {
    fn of(folder: &Path) -> Result<Self> {
        let cannot = |e: std::io::Error| Error::read(format!("cannot read {}: {e}", folder.display()));
        let mut found = Self { images: Vec::new(), folders: Vec::new(), others: Vec::new() };
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            if path.is_dir() {
                found.folders.push(path);
            } else if IMAGE_EXTENSIONS.contains(&extension(&path).as_str()) {
                found.images.push(path);
            } else {
                found.others.push(path);
            }
        }
        for list in [&mut found.images, &mut found.folders, &mut found.others] {
            list.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes empty files and lists the folder: names relative to it, and labels.
    fn list(files: &[&str]) -> Result<(Vec<String>, Option<Vec<i64>>)> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = Folder::open(folder.path())?;
        let names = found.files.iter().map(|f| f.strip_prefix(folder.path()).unwrap().to_str().unwrap().replace('\\', "/"));
        Ok((names.collect(), found.labels))
    }

    #[test]
    fn files_are_sorted_and_labelled_where_all_names_agree() {
        for (files, names, labels) in [
            (
                &["b.png", "a.JPG", "c.webp", "d.bmp", "e.jpeg", "note.txt", ".f.png"][..],
                &["a.JPG", "b.png", "c.webp", "d.bmp", "e.jpeg"][..],
                None,
            ),
            (&["10_4.png", "2_7.png"], &["10_4.png", "2_7.png"], Some(vec![4, 7])),
            (&["00_4.png", "01.png"], &["00_4.png", "01.png"], None),
            (&["img_1.png", "img_2.png"], &["img_1.png", "img_2.png"], None),
            (&["dog/a.png", "cat/b.png", "cat/a.png", "none/x.txt"], &["cat/a.png", "cat/b.png", "dog/a.png"], Some(vec![0, 0, 1])),
            (&["5/a.png", "12/a.png"], &["12/a.png", "5/a.png"], Some(vec![12, 5])),
            (&["a.png", "dog/b.png"], &["a.png"], None),
        ] {
            let (got, got_labels) = list(files).unwrap();
            assert_eq!(got, names);
            assert_eq!(got_labels, labels, "{files:?}");
        }
    }

    #[test]
    fn folders_without_images_are_errors_that_say_what_was_looked_for() {
        for files in [&[][..], &["a.txt"], &["deep/er/a.png"], &["a.gif"]] {
            let message = list(files).unwrap_err().to_string();
            assert!(message.contains(".png, .jpg, .jpeg, .bmp, .webp"), "{message}");
        }
    }
}
