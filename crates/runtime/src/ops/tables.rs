//! Elements picked by one table of places per axis: the way of `Pad` and of nearest-neighbour `Resize`.

use super::strided::contiguous;

/// For each element along an axis of the output, its place along the same axis of the input; `None` for the fill.
pub(super) type Table = Vec<Option<usize>>;

/// The elements of `x` at the places that the tables name, and `fill` where one names none. There is a table per axis,
/// every place of which is inside it; the output has as many elements as all tables together reach.
pub(super) fn pick<T: Copy>(x: &[T], shape: &[usize], tables: &[Table], fill: T) -> Vec<T> {
    let len = tables.iter().map(Vec::len).product();
    let mut out = Vec::with_capacity(len);
    let Some((last, outer)) = tables.split_last() else { return x.to_vec() };
    if len == 0 {
        return out;
    }
    let strides: Vec<usize> = contiguous(shape).into_iter().map(|s| s as usize).collect();
    let mut index = vec![0; outer.len()];
    while out.len() < len {
        let place = |((table, i), stride): ((&Table, &usize), &usize)| table[*i].map(|p| p * stride);
        let base = outer.iter().zip(&index).zip(&strides).map(place).sum::<Option<usize>>();
        match base {
            Some(base) => out.extend(last.iter().map(|p| p.map_or(fill, |p| x[base + p]))),
            None => out.extend(std::iter::repeat_n(fill, last.len())),
        }
        for (i, table) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < table.len() {
                break;
            }
            *i = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_fill() {
        let x = [1, 2, 3, 4];
        let tables = [vec![Some(1), None, Some(0)], vec![None, Some(1)]];
        assert_eq!(pick(&x, &[2, 2], &tables, 9), [9, 4, 9, 9, 9, 2]);
        assert_eq!(pick(&x[..1], &[], &[], 9), [1]);
        assert_eq!(pick(&x, &[2, 2], &[vec![], vec![Some(0)]], 9), [0; 0]);
    }
}
