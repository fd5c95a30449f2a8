//! Reports as text for a terminal.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use fewbit::bench::{Benchmark, Step};
use fewbit::evaluate::Evaluation;
use fewbit::report::Report;

/// Layers that a report lists, the worst first.
const WORST_LAYERS: usize = 5;
/// Nodes in float that a report lists one by one; more are counted by reason.
const FLOAT_NODES: usize = 8;
/// Characters of a name in a table of a report.
const MAX_NAME: usize = 61;

/// A number with thousands separated.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A table without rules; all columns but the first are aligned to the right where they hold numbers.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    let numeric = |column: usize| {
        rows.iter().all(|r| r.get(column).is_some_and(|c| c.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '?')))
    };
    let right: Vec<usize> = (0..header.len()).filter(|c| !rows.is_empty() && numeric(*c)).collect();
    for row in rows {
        table.add_row(row);
    }
    for column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A name that fits a table: converters join the names of all that they fused.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= MAX_NAME {
        return name.to_owned();
    }
    let half = (MAX_NAME - 1) / 2;
    name.chars().take(half).chain(['…']).chain(name.chars().skip(length - half)).collect()
}

/// What a quantization did and cost.
pub(crate) fn report(r: &Report) -> String {
    let mut text = String::new();
    let ratio = r.source_bytes as f64 / r.output_bytes.max(1) as f64;
    let _ = writeln!(text, "{} → {}", r.source, r.output);
    let _ = writeln!(text, "size       {} → {} bytes, {ratio:.2} times smaller", count(r.source_bytes), count(r.output_bytes));
    let quantized: Vec<_> = r.quantized.iter().map(|(op, n)| format!("{n} {op}")).collect();
    let samples = if r.calibration_samples > 0 { format!(", calibrated on {} samples", r.calibration_samples) } else { String::new() };
    let _ = writeln!(text, "quantized  {} ({} for {}{samples})", or_none(&quantized.join(", ")), r.recipe, r.target);
    text.push_str(&float_nodes(r));
    for remark in &r.remarks {
        let _ = writeln!(text, "note       {remark}");
    }
    match (&r.evaluation, &r.evaluated_on) {
        (Some(e), Some(on)) => {
            let _ = writeln!(text, "compared   on {on}");
            text.push_str(&evaluation(e, WORST_LAYERS));
        }
        _ => {
            let _ = writeln!(text, "compared   on nothing: give --validate DATA to see what it cost");
        }
    }
    let memory = r.peak_bytes.map_or_else(String::new, |b| format!(", {} MB at the peak", b / 1_000_000));
    let _ = writeln!(text, "took       {:.2} s{memory}", r.seconds);
    text
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn float_nodes(r: &Report) -> String {
    let mut text = String::new();
    if r.float.len() <= FLOAT_NODES {
        for node in &r.float {
            let _ = writeln!(text, "float      {} '{}': {}", node.op, node.node, node.reason);
        }
        return text;
    }
    let mut by_reason: Vec<(String, usize, String)> = Vec::new();
    for node in &r.float {
        let key = format!("{}: {}", node.op, node.reason);
        match by_reason.iter_mut().find(|(k, ..)| *k == key) {
            Some((_, n, _)) => *n += 1,
            None => by_reason.push((key, 1, node.node.clone())),
        }
    }
    for (reason, n, example) in by_reason {
        let _ = writeln!(text, "float      {n} × {reason} (such as '{example}')");
    }
    text
}

/// How a quantized network answers beside its float one.
pub(crate) fn evaluation(e: &Evaluation, layers: usize) -> String {
    let mut text = String::new();
    for o in &e.outputs {
        let _ = write!(text, "output     {}: SQNR {:.1} dB (worst sample {:.1})", o.name, o.sqnr_db, o.sqnr_db_min);
        if let Some(a) = &o.agreement {
            let _ = write!(text, ", top-1 agreement {:.1} %, in the top 5 {:.1} %", a.top1, a.top5);
        }
        text.push('\n');
        if let Some(a) = &o.accuracy {
            let _ = writeln!(
                text,
                "accuracy   on {} labels: top-1 {:.1} % → {:.1} %, top-5 {:.1} % → {:.1} %",
                a.samples, a.float_top1, a.quantized_top1, a.float_top5, a.quantized_top5
            );
        }
    }
    if !e.layers.is_empty() && layers > 0 {
        let rows = e.layers.iter().take(layers).map(|l| vec![shortened(&l.value), l.op.clone(), format!("{:.1}", l.sqnr_db)]);
        let _ = writeln!(text, "worst of {} layers, on {} samples:", e.layers.len(), e.layer_samples);
        let _ = writeln!(text, "{}", table(&["layer", "operator", "SQNR dB"], rows.collect()));
    }
    text
}

/// How a network ran; with every step if `profile` says so.
pub(crate) fn benchmark(b: &Benchmark, profile: bool) -> String {
    let mut text = String::new();
    let l = &b.latency;
    let _ = writeln!(
        text,
        "latency    {:.3} ms (10 % below {:.3}, 10 % above {:.3}) over {} runs on {} threads, {}",
        l.median_ms, l.p10_ms, l.p90_ms, l.runs, b.threads, b.isa
    );
    let _ = writeln!(
        text,
        "throughput {:.1} per second, {:.1} GMAC/s: {:.0} % of what these cores can do (one: {:.0} in floats, {:.0} in integers)",
        b.throughput,
        b.gmacs_per_second,
        100.0 * b.peak_fraction,
        b.peak.float,
        b.peak.integer
    );
    let _ = writeln!(
        text,
        "work       {} MACs, {} of them in integers; {} bytes of activations",
        count(b.macs as u64),
        count(b.integer_macs as u64),
        count(b.arena_bytes as u64)
    );
    let e = &b.energy;
    let _ = writeln!(
        text,
        "energy     {:.0} µJ: {:.0} for MACs, {:.0} for activations in a cache, {:.0} for weights from memory (estimate by Horowitz, ISSCC 2014)",
        e.microjoules(),
        e.compute_microjoules,
        e.cache_microjoules,
        e.memory_microjoules
    );
    if profile {
        let total: f64 = b.steps.iter().map(|s| s.microseconds).sum();
        let row = |s: &Step| {
            let speed = if s.macs == 0 { String::new() } else { format!("{:.1}", s.macs as f64 / 1e3 / s.microseconds) };
            let share = format!("{:.1}", 100.0 * s.microseconds / total.max(1e-9));
            vec![shortened(&s.node), s.op.clone(), s.kernel.to_owned(), s.output.clone(), format!("{:.1}", s.microseconds), share, speed]
        };
        let rows = b.steps.iter().filter(|s| s.kernel != "alias").map(row).collect();
        let _ = writeln!(text, "{}", table(&["node", "operator", "kernel", "output", "µs", "%", "GMAC/s"], rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{count, shortened};

    #[test]
    fn thousands() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (14_193_862, "14,193,862")] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("conv"), "conv");
        let short = shortened(&format!("first/{}/last", "é".repeat(100)));
        assert!(short.starts_with("first/é") && short.contains("é…é") && short.ends_with("é/last") && short.chars().count() == 61);
    }
}
