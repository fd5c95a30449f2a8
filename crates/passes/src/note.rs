//! What passes did, and what they did not do and why.

use std::fmt;

/// One decision of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The pass.
    pub pass: &'static str,
    /// The node that it was about, by name.
    pub node: String,
    /// What happened: `None` if the pass was applied, else why it did not fire.
    pub declined: Option<String>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.declined {
            None => write!(f, "{}: '{}'", self.pass, self.node),
            Some(why) => write!(f, "{}: not at '{}': {why}", self.pass, self.node),
        }
    }
}

/// The notes of a run of passes, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pass: &'static str,
    notes: Vec<Note>,
}

impl Notes {
    /// The following notes are of that pass.
    pub fn begin(&mut self, pass: &'static str) {
        self.pass = pass;
    }

    /// The pass was applied at a node.
    pub fn applied(&mut self, node: &str) {
        self.notes.push(Note { pass: self.pass, node: node.to_owned(), declined: None });
    }

    /// The pass looked at a node and let it be.
    pub fn declined(&mut self, node: &str, why: impl Into<String>) {
        self.notes.push(Note { pass: self.pass, node: node.to_owned(), declined: Some(why.into()) });
    }

    /// All notes.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter()
    }

    /// How often a pass was applied.
    pub fn count(&self, pass: &str) -> usize {
        self.notes.iter().filter(|n| n.pass == pass && n.declined.is_none()).count()
    }
}
