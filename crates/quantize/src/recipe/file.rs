//! Recipe files.
//!
//! ```toml
//! base = "static_wi8_ai8"        # how every node is quantized
//! range = "mse:1.5"              # how ranges of activations follow from statistics
//! bias_correction = true
//! integer_outputs = false        # whether a softmax at an output is quantized
//!
//! [[rule]]                       # later rules win
//! op = "Conv"                    # conditions: name (a regular expression), op, between = ["from", "to"]
//! name = "^features/0/"
//! skip = true                    # or: use = "weight_only_wi8", or: range = "minmax"
//! ```

use regex::Regex;
use serde::Deserialize;

use super::{Action, Config, DEFAULT_RANGE, Recipe, Rule, Scope};
use crate::range::RangeMethod;
use crate::{Error, ErrorKind, Result};

/// Rules of one file. No recipe written by hand comes near.
const MAX_RULES: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Option<String>,
    range: Option<String>,
    bias_correction: Option<bool>,
    integer_outputs: Option<bool>,
    #[serde(default)]
    rule: Vec<RuleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Option<String>,
    op: Option<String>,
    between: Option<[String; 2]>,
    skip: Option<bool>,
    #[serde(rename = "use")]
    config: Option<String>,
    range: Option<String>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Recipe> {
    let file: File = toml::from_str(text).map_err(|e| Error::new(ErrorKind::Recipe, e.to_string().trim_end().to_owned()))?;
    if file.rule.len() > MAX_RULES {
        return Err(Error::new(ErrorKind::Recipe, format!("{} rules, more than the {MAX_RULES} allowed", file.rule.len())));
    }
    let base = file.base.map_or(Ok(Config::STATIC_8), |b| b.parse())?;
    let range = file.range.map_or(Ok(DEFAULT_RANGE), |r| r.parse())?;
    let rules = file.rule.into_iter().enumerate().map(|(i, table)| table.rule().map_err(|e| e.at(format!("rule {}", i + 1))));
    Ok(Recipe {
        name: name.to_owned(),
        base,
        range,
        bias_correction: file.bias_correction.unwrap_or(true),
        integer_outputs: file.integer_outputs.unwrap_or(false),
        rules: rules.collect::<Result<_>>()?,
    })
}

impl RuleTable {
    fn rule(self) -> Result<Rule> {
        let fail = |message: String| Err(Error::new(ErrorKind::Recipe, message));
        let range: Option<RangeMethod> = self.range.map(|r| r.parse()).transpose()?;
        let action = match (self.skip, self.config) {
            (Some(true), None) => Action::Skip,
            (None | Some(false), Some(config)) => Action::Use(config.parse()?),
            (None | Some(false), None) if range.is_some() => Action::Keep,
            (None | Some(false), None) => return fail("it does nothing: say skip = true, use = \"…\" or range = \"…\"".to_owned()),
            (Some(true), Some(_)) => return fail("it says both skip and use".to_owned()),
        };
        let name = match self.name.map(|re| Regex::new(&re)).transpose() {
            Ok(name) => name,
            Err(e) => return fail(format!("name is no regular expression: {e}")),
        };
        Ok(Rule { scope: Scope { name, op: self.op, between: self.between.map(|[from, to]| (from, to)) }, action, range })
    }
}

#[cfg(test)]
mod tests {
    use fewbit_ir::Graph;

    use super::*;

    const GRAPH: &str = "input x: f32[1,4]\na = Unary \"Relu\" (x) \"first\"\nb = Unary \"Tanh\" (a) \"second\"
        c = Unary \"Relu\" (b) \"third\"\nd = Unary \"Relu\" (c)\noutput d";

    fn decided(text: &str) -> Result<Vec<Option<usize>>> {
        let graph: Graph = GRAPH.parse()?;
        let verdicts = Recipe::from_toml("r.toml", text)?.verdicts(&graph)?;
        Ok(verdicts.into_iter().flatten().map(|v| v.rule).collect())
    }

    #[test]
    fn the_last_rule_that_matches_wins() {
        for (text, expected) in [
            ("", [None; 4]),
            ("[[rule]]\nop = \"Relu\"\nskip = true", [Some(0), None, Some(0), Some(0)]),
            ("[[rule]]\nname = \"^(first|d)$\"\nskip = true", [Some(0), None, None, Some(0)]),
            ("[[rule]]\nop = \"Relu\"\nname = \"first\"\nskip = true", [Some(0), None, None, None]),
            ("[[rule]]\nskip = true\n[[rule]]\nop = \"Tanh\"\nuse = \"static_wi8_ai8\"", [Some(0), Some(1), Some(0), Some(0)]),
            ("[[rule]]\nbetween = [\"a\", \"third\"]\nskip = true", [None, Some(0), Some(0), None]),
            ("[[rule]]\nbetween = [\"x\", \"d\"]\nskip = true", [Some(0); 4]),
            ("[[rule]]\nrange = \"minmax\"", [None; 4]),
        ] {
            assert_eq!(decided(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_skipped_node_has_no_configuration_and_ranges_are_kept() {
        let recipe = Recipe::from_toml("r", "range = \"minmax\"\n[[rule]]\nop = \"Tanh\"\nskip = true\nrange = \"entropy\"").unwrap();
        let verdicts: Vec<_> = recipe.verdicts(&GRAPH.parse().unwrap()).unwrap().into_iter().flatten().collect();
        assert_eq!((verdicts[0].config, verdicts[0].range), (Some(Config::STATIC_8), RangeMethod::MinMax));
        assert_eq!((verdicts[1].config, verdicts[1].range), (None, RangeMethod::Entropy));
        assert!(recipe.describe_rule(Some(0)).contains("op = Tanh"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, says) in [
            ("bits = 8", "unknown field `bits`"),
            ("[[rule]]\nopp = \"Conv\"", "unknown field `opp`"),
            ("base = \"int8\"", "int8"),
            ("range = \"best\"", "best"),
            ("[[rule]]\nop = \"Relu\"", "rule 1: it does nothing"),
            ("[[rule]]\nskip = true\nuse = \"float16\"", "both"),
            ("[[rule]]\nskip = true\n[[rule]]\nname = \"(\"\nskip = true", "rule 2: name is no regular expression"),
            ("[[rule]]\nop = \"Conv\"\nskip = true", "rule 1 (op = Conv) matches no node"),
            ("[[rule]]\nbetween = [\"a\", \"nowhere\"]\nskip = true", "'nowhere' is no node"),
            ("= 1", "r.toml"),
        ] {
            let e = decided(text).unwrap_err();
            assert!(e.kind() == ErrorKind::Recipe && e.to_string().contains(says), "{text}: {e}");
        }
    }
}
