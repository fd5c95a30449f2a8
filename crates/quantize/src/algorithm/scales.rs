//! Scales at which rounding weights costs least, and levels of blocks that are whole multiples of their channel's scale.
//!
//! Where a row of weights has one scale, few large weights decide how coarse all are. Blocks of a row may have scales and zero points
//! of their own; where a block's scale is `m · s`, a small whole multiple of its row's, they cost no arithmetic: the weight
//! `(q − z) · m · s` is the integer `(q − z) · m` on the scale of the row, and with 4-bit `q` and `z` and `m` up to 8 that integer has
//! 8 bits, as every integer kernel takes them. These are the two levels of scales of "VS-Quant" (Dai et al., `MLSys` 2021), stored as
//! in `QServe` (Lin et al., 2024), where 4-bit weights are expanded to 8 bits before they are multiplied. Deviation: neither rounds
//! twice here; multiples, zero points and the row's scale are searched for together.

/// Fractions of the largest magnitude that are tried as the reach of a scale, from [`LEAST_REACH`] to 1.
const REACHES: usize = 40;
const LEAST_REACH: f64 = 0.5;
/// Scales of a row that are tried where blocks choose multiples of it.
const ROW_SCALES: u8 = 32;
/// Multiples that a block may have: 4 bits.
const MULTIPLES: i32 = 16;
/// Fewer multiples than this are no choice.
const LEAST_MULTIPLES: i32 = 4;

/// Weights that share levels, with the energy of what each meets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Block {
    pub(crate) weights: Vec<f64>,
    pub(crate) energy: Vec<f64>,
}

impl Block {
    /// The smallest and the largest weight, and 0.
    fn range(&self) -> [f64; 2] {
        self.weights.iter().fold([0.0, 0.0], |[min, max], w| [w.min(min), w.max(max)])
    }
}

/// The levels of a block of weights: whole numbers from `min` to `max`, times `multiple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// How many steps of the row's scale lie between two levels.
    pub multiple: u8,
    /// The lowest level over `multiple`.
    pub min: i8,
    /// The highest level over `multiple`.
    pub max: i8,
}

impl Levels {
    /// Levels of integers within limits.
    pub(crate) fn plain([min, max]: [i32; 2]) -> Self {
        Self { multiple: 1, min: min as i8, max: max as i8 }
    }

    /// The integer that is nearest to `w`, a weight over its row's scale.
    pub fn nearest(self, w: f64) -> i32 {
        (self.rounded(w).clamp(f64::from(self.min), f64::from(self.max)) * f64::from(self.multiple)) as i32
    }

    /// Whether `w` is beyond the levels by more than rounding.
    pub fn limits(self, w: f64) -> bool {
        !(f64::from(self.min)..=f64::from(self.max)).contains(&self.rounded(w))
    }

    fn rounded(self, w: f64) -> f64 {
        (w / f64::from(self.multiple)).round_ties_even()
    }

    /// The lowest and the highest integer.
    pub fn ends(self) -> [i32; 2] {
        [self.min, self.max].map(|level| i32::from(level) * i32::from(self.multiple))
    }

    /// What rounding a block to these levels costs, each weight by the energy of what it meets.
    fn cost(self, block: &Block, scale: f64) -> f64 {
        cost(&block.weights, &block.energy, scale * f64::from(self.multiple), [self.min.into(), self.max.into()])
    }
}

/// Whether integers of so many bits can have blocks.
pub(crate) fn has_block_levels(bits: u8) -> bool {
    BlockLevels::new(bits).is_some()
}

/// Levels that blocks of integers of `bits` bits choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockLevels {
    /// A block has so many, less one.
    span: i32,
    most: u8,
}

impl BlockLevels {
    /// `None` where integers have too many bits for multiples of them to have 8.
    pub(crate) fn new(bits: u8) -> Option<Self> {
        let span = 1_i32.checked_shl(bits.into()).filter(|levels| (4..256).contains(levels))? - 1;
        // With 0 in the middle of the levels.
        let most = (i32::from(i8::MAX) / (span / 2 + 1)).min(MULTIPLES);
        Some(Self { span, most: u8::try_from(most).ok().filter(|_| most >= LEAST_MULTIPLES)? })
    }

    /// A scale of a row, and the levels of each of its blocks, at which rounding costs least.
    pub(crate) fn best(self, blocks: &[Block]) -> (f64, Vec<Levels>) {
        let ranges: Vec<[f64; 2]> = blocks.iter().map(Block::range).collect();
        let largest = ranges.iter().map(|range| self.wanted(*range)).fold(0.0, f64::max);
        if largest <= 0.0 {
            return (1.0, vec![self.levels(1, 0); blocks.len()]);
        }
        let with = |scale: f64| -> (f64, f64, Vec<Levels>) {
            let (costs, levels): (Vec<f64>, Vec<Levels>) =
                blocks.iter().zip(&ranges).map(|(b, range)| self.of_block(b, *range, scale)).unzip();
            (costs.iter().sum(), scale, levels)
        };
        // From the scale at which the largest block, wherever its levels lie, has room, to that at which it is cut off at half.
        let (first, last) = (largest / f64::from(i32::from(i8::MAX) / self.span), largest * LEAST_REACH / f64::from(self.most));
        let tried = (0..ROW_SCALES).map(|i| with(first * (last / first).powf(f64::from(i) / f64::from(ROW_SCALES - 1))));
        let best = tried.reduce(|best, next| if next.0 < best.0 { next } else { best });
        best.map_or((1.0, Vec::new()), |(_, scale, levels)| (scale, levels))
    }

    /// The scale that a block would have by its reach alone.
    fn wanted(self, [min, max]: [f64; 2]) -> f64 {
        (max - min) / f64::from(self.span)
    }

    /// The cost and the levels of a block, of those whose multiple is near what it wants.
    fn of_block(self, block: &Block, [min, max]: [f64; 2], scale: f64) -> (f64, Levels) {
        let ceil = (self.wanted([min, max]) / scale).ceil().clamp(1.0, f64::from(self.most)) as u8;
        let multiples = ceil.saturating_sub(2).max(1)..=ceil;
        let tried = multiples.flat_map(|multiple| {
            let middle = (f64::midpoint(min, max) / (scale * f64::from(multiple)) - f64::from(self.span) / 2.0).round() as i32;
            (middle - 1..=middle + 1).map(move |lowest| self.levels(multiple, lowest))
        });
        let costs = tried.map(|levels| (levels.cost(block, scale), levels));
        costs.reduce(|best, next| if next.0 < best.0 { next } else { best }).unwrap_or((0.0, self.levels(1, 0)))
    }

    /// Levels that include 0 and have 8 bits, from `lowest` on if they can.
    fn levels(self, multiple: u8, lowest: i32) -> Levels {
        let reach = i32::from(i8::MAX) / i32::from(multiple);
        let min = lowest.max(-reach).min(reach - self.span).clamp(-self.span, 0);
        Levels { multiple, min: min as i8, max: (min + self.span) as i8 }
    }
}

/// The scale at which rounding rows within limits costs least, each given with the energy of what its columns meet.
pub(crate) fn best_scale(rows: &[(&[f64], &[f64])], [min, max]: [i32; 2]) -> f64 {
    let largest = rows.iter().flat_map(|(row, _)| row.iter()).fold(0.0, |m: f64, w| m.max(w.abs()));
    let full = if largest > 0.0 { largest } else { 1.0 } / f64::from(max);
    let cost = |scale: f64| -> f64 { rows.iter().map(|(row, energy)| cost(row, energy, scale, [min, max])).sum() };
    let tried = (0..REACHES).map(|i| full * (1.0 - (1.0 - LEAST_REACH) * i as f64 / (REACHES - 1) as f64));
    let best = tried.map(|scale| (cost(scale), scale)).fold((f64::INFINITY, full), |best, next| if next.0 < best.0 { next } else { best });
    best.1
}

/// What rounding weights with a scale costs, each by the energy of what it meets.
fn cost(weights: &[f64], energy: &[f64], scale: f64, [min, max]: [i32; 2]) -> f64 {
    let (min, max) = (f64::from(min), f64::from(max));
    weights.iter().zip(energy).map(|(w, e)| e * (w - (w / scale).round_ties_even().clamp(min, max) * scale).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(weights: &[f64]) -> Block {
        Block { weights: weights.to_vec(), energy: vec![1.0; weights.len()] }
    }

    fn error(blocks: &[Block], scale: f64, levels: &[Levels]) -> f64 {
        let of = |(b, l): (&Block, &Levels)| b.weights.iter().map(|w| (f64::from(l.nearest(w / scale)) * scale - w).powi(2)).sum::<f64>();
        blocks.iter().zip(levels).map(of).sum()
    }

    #[test]
    fn blocks_of_other_sizes_and_signs_have_levels_of_their_own() {
        // 1 to 16, a quarter of that, and only below zero.
        let ramp: Vec<f64> = (0..16).map(f64::from).collect();
        let blocks = [
            block(&ramp),
            block(&ramp.iter().map(|w| w / 4.0).collect::<Vec<_>>()),
            block(&ramp.iter().map(|w| -w / 2.0).collect::<Vec<_>>()),
        ];
        let (scale, levels) = BlockLevels::new(4).unwrap().best(&blocks);
        assert!(error(&blocks, scale, &levels) < 1e-9, "{scale} {levels:?}");
        assert_eq!(
            levels.iter().map(|l| l.multiple).collect::<Vec<_>>(),
            [levels[1].multiple * 4, levels[1].multiple, levels[1].multiple * 2]
        );
        assert_eq!([levels[0].min, levels[0].max, levels[2].min, levels[2].max], [0, 15, -15, 0]);
    }

    #[test]
    fn rounding_to_blocks_costs_less_than_to_a_row() {
        let weights: Vec<f64> = (0..256).map(|i| (f64::from(i * 97 % 256) / 128.0 - 1.0) * if i < 16 { 4.0 } else { 1.0 }).collect();
        let blocks: Vec<Block> = weights.chunks(32).map(block).collect();
        let energy = vec![1.0; weights.len()];
        for bits in [2_u8, 3, 4, 5] {
            let (scale, levels) = BlockLevels::new(bits).unwrap().best(&blocks);
            for levels in &levels {
                let [min, max] = levels.ends();
                assert!(min <= 0 && max >= 0 && min >= -127 && max <= 127, "{bits} bits: {levels:?}");
                assert_eq!(i32::from(levels.max) - i32::from(levels.min), (1 << bits) - 1);
            }
            let limits = [-(1 << (bits - 1)) + i32::from(bits > 2), (1 << (bits - 1)) - 1];
            let of_row = cost(&weights, &energy, best_scale(&[(&weights, &energy)], limits), limits);
            let of_blocks = error(&blocks, scale, &levels);
            assert!(of_blocks < of_row / 2.0, "{bits} bits: {of_blocks} beside {of_row}");
        }
    }

    #[test]
    fn what_cannot_have_blocks() {
        assert!((2..=5).all(has_block_levels));
        assert!([0, 1, 6, 7, 8, 16, 40].into_iter().all(|bits| !has_block_levels(bits)));
        let (scale, levels) = BlockLevels::new(4).unwrap().best(&[block(&[0.0, 0.0]), block(&[])]);
        assert!(scale > 0.0 && levels.len() == 2 && levels[0].nearest(0.0) == 0);
        assert_eq!(BlockLevels::new(4).unwrap().best(&[]).1, []);
    }
}
