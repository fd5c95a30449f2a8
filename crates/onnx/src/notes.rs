//! What a reader or writer has to say short of an error.

use std::collections::BTreeMap;

use crate::limits::MAX_NOTES;

/// Remarks in the order in which they arose, and things that are only worth counting.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    list: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
    dropped: usize,
}

impl Notes {
    /// Adds a remark.
    pub(crate) fn add(&mut self, note: String) {
        if self.list.len() < MAX_NOTES {
            self.list.push(note);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Counts something; the note will read "`what`: so many".
    pub(crate) fn count(&mut self, what: &'static str, n: usize) {
        if n > 0 {
            let count = self.counts.entry(what).or_default();
            *count = count.saturating_add(n);
        }
    }

    /// All remarks.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.list.extend(self.counts.into_iter().map(|(what, n)| format!("{what}: {n}")));
        if self.dropped > 0 {
            self.list.push(format!("further notes left out: {}", self.dropped));
        }
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_counted() {
        let mut notes = Notes::default();
        for i in 0..MAX_NOTES + 5 {
            notes.add(i.to_string());
        }
        notes.count("things", 2);
        notes.count("things", 1);
        notes.count("nothing", 0);
        let notes = notes.finish();
        assert_eq!(notes.len(), MAX_NOTES + 2);
        assert_eq!(&notes[MAX_NOTES..], ["things: 3", "further notes left out: 5"]);
    }
}
