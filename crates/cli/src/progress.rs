//! How far a run is: a bar with an estimate on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fewbit::parallel::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Plain lines come no more often than this.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress on standard error.
pub(crate) struct Stderr {
    terminal: bool,
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    name: String,
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
    last_line: Option<Instant>,
}

impl Stderr {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), stage: Mutex::default() }
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Stderr {
    fn begin(&self, stage: &str, samples: usize) {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::new(samples as u64);
            if let Ok(style) = ProgressStyle::with_template("{prefix:>10} {wide_bar} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            bar.set_prefix(stage.to_owned());
            bar
        });
        *self.stage() = Stage { name: stage.to_owned(), bar, done: 0, total: samples, last_line: Some(Instant::now()) };
    }

    fn advance(&self) {
        let mut stage = self.stage();
        stage.done += 1;
        if let Some(bar) = &stage.bar {
            bar.inc(1);
        } else if stage.last_line.is_none_or(|t| t.elapsed() >= LINE_INTERVAL) {
            eprintln!("{}: {} of {} samples", stage.name, stage.done, stage.total);
            stage.last_line = Some(Instant::now());
        }
    }

    fn end(&self) {
        if let Some(bar) = self.stage().bar.take() {
            bar.finish_and_clear();
        }
    }
}
