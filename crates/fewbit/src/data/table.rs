//! The CSV format: one sample per row, for one input.
//!
//! In: a path and the input. Out: a row of numbers per sample, in the input's shape, and labels where a column holds
//! them. Values are used as they are, without scaling. The table is held in memory: 4 bytes per value for an input of
//! floats, 8 for one of integers.
//!
//! | first row | label | elements of the input, in order |
//! |---|---|---|
//! | names (a field that is no number) | the column `label`, `y`, `class` or `target`, if there is one | all other columns |
//! | numbers, one more than the input has elements | the first column | the others |
//! | numbers | none | all columns |

use std::fs::File;
use std::io::Read;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, Trim};
use fewbit_tensor::{DType, Tensor, element_count};

use super::spec::InputSpec;
use crate::{Error, Result};

/// Names of the column of labels, in any case.
const LABELS: [&str; 4] = ["label", "y", "class", "target"];
/// Largest file that is read.
const MAX_FILE: u64 = 2 << 30;
/// Most columns of a table.
const MAX_COLUMNS: usize = 1 << 20;

/// The rows of a table for one input.
#[derive(Debug)]
pub(super) struct TableColumn {
    place: String,
    input: InputSpec,
    /// One after another, without labels.
    values: Values,
    /// The shape of a sample.
    shape: Vec<usize>,
    width: usize,
    rows: usize,
    /// What is read as what.
    reading: String,
}

#[derive(Debug)]
enum Values {
    Real(Vec<f32>),
    Whole(Vec<i64>),
}

impl TableColumn {
    /// Reads the table for an input: its samples and its labels, if it has any.
    pub(super) fn open(path: &Path, input: &InputSpec) -> Result<(Self, Option<Vec<i64>>)> {
        let place = path.display().to_string();
        let cannot = |e: std::io::Error| Error::read(format!("cannot read {place}: {e}"));
        let len = std::fs::metadata(path).map_err(cannot)?.len();
        if len > MAX_FILE {
            return Err(Error::data(format!(
                "{place}: {len} bytes are more than the {MAX_FILE} that are read of a table; save it as .npy"
            )));
        }
        Self::read(&place, File::open(path).map_err(cannot)?.take(MAX_FILE), input)
    }

    fn read(place: &str, text: impl Read, input: &InputSpec) -> Result<(Self, Option<Vec<i64>>)> {
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(text);
        let mut record = ByteRecord::new();
        let mut next = |record: &mut ByteRecord| reader.read_byte_record(record).map_err(|e| Error::read(format!("{place}: {e}")));
        if !next(&mut record)? {
            return Err(Error::data(format!("{place} holds no row")));
        }
        let head = Head::of(&record, input).map_err(|e| e.at(format!("{place} line {}", line(&record))))?;
        let values = if input.dtype.is_float() { Values::Real(Vec::new()) } else { Values::Whole(Vec::new()) };
        let width = head.columns - usize::from(head.label.is_some());
        let reading = head.reading();
        let mut table = Self { place: place.to_owned(), input: input.clone(), values, shape: head.shape, width, rows: 0, reading };
        let mut labels = Vec::new();
        let mut there = !head.names || next(&mut record)?;
        while there {
            let at = |column: usize| format!("{place} line {} column {}", line(&record), column + 1);
            if record.len() != head.columns {
                let columns = if record.len() == 1 { "1 column".into() } else { format!("{} columns", record.len()) };
                return Err(Error::data(format!(
                    "{place} line {}: {columns} where the first row has {}; repair or drop this row",
                    line(&record),
                    head.columns
                )));
            }
            for (column, field) in record.iter().enumerate() {
                if head.label == Some(column) {
                    let label = parsed(field).ok_or_else(|| not(field, "a label, which is an integer").at(at(column)))?;
                    labels.push(label);
                } else {
                    table.values.push(field, input.dtype).map_err(|e| e.at(at(column)))?;
                }
            }
            table.rows += 1;
            there = next(&mut record)?;
        }
        if table.rows == 0 {
            return Err(Error::data(format!("{place} holds names of columns, but no row")));
        }
        Ok((table, head.label.map(|_| labels)))
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> usize {
        self.rows
    }

    /// Where sample `i` comes from, for messages.
    pub(super) fn origin(&self, i: usize) -> String {
        format!("{} sample {i}", self.place)
    }

    /// One line for the user: what is read as what.
    pub(super) fn describe(&self) -> String {
        let InputSpec { name, dtype, .. } = &self.input;
        format!("input '{name}' {dtype} {}: {} {} rows, {}\n", self.input.shape_text(), self.place, self.rows, self.reading)
    }

    /// Sample `i` with a leading dimension of 1, in the input's type.
    pub(super) fn sample(&self, i: usize) -> Result<Tensor> {
        let row = i * self.width..(i + 1) * self.width;
        let (dtype, shape) = (self.input.dtype, self.shape.clone());
        let tensor = match &self.values {
            Values::Real(values) => Tensor::from_floats(dtype, shape, &values[row]),
            Values::Whole(values) => Tensor::from_integers(dtype, shape, &values[row]),
        };
        tensor.map_err(|e| Error::data(format!("{}: {e}", self.origin(i))))
    }
}

impl Values {
    /// Reads one field; an error where the input's type does not hold it.
    fn push(&mut self, field: &[u8], dtype: DType) -> Result<()> {
        match self {
            Self::Real(values) => {
                let value: f32 = parsed(field).ok_or_else(|| not(field, "a number"))?;
                let narrow = !matches!(dtype, DType::F32 | DType::F64);
                let held = !narrow || Tensor::from_floats(dtype, [1], &[value]).is_ok_and(|t| t.to_f32()[0].is_finite());
                if !held || !value.is_finite() {
                    return Err(not(field, &format!("a finite {dtype}")));
                }
                values.push(value);
            }
            Self::Whole(values) => {
                let value: i64 = parsed(field).ok_or_else(|| not(field, &format!("an integer, which the input takes ({dtype})")))?;
                let (low, high) = if dtype == DType::Bool { (0, 1) } else { dtype.integer_range().unwrap_or((i64::MIN, i64::MAX)) };
                if !(low..=high).contains(&value) || (dtype == DType::U64 && value < 0) {
                    return Err(not(field, &format!("a value of {dtype}")));
                }
                values.push(value);
            }
        }
        Ok(())
    }
}

/// What the first row says.
struct Head {
    /// Whether it holds names and no sample.
    names: bool,
    columns: usize,
    label: Option<usize>,
    /// The name of the label, where it has one.
    named: Option<String>,
    shape: Vec<usize>,
}

impl Head {
    fn of(first: &ByteRecord, input: &InputSpec) -> Result<Self> {
        let columns = first.len();
        if columns > MAX_COLUMNS {
            return Err(Error::data(format!("{columns} columns are more than the {MAX_COLUMNS} that are read; save the table as .npy")));
        }
        let names = first.iter().any(|field| parsed::<f64>(field).is_none());
        let is_label = |field: &[u8]| LABELS.iter().any(|l| field.eq_ignore_ascii_case(l.as_bytes()));
        let labels: Vec<usize> = (0..columns).filter(|&c| is_label(&first[c])).collect();
        let label = match (names, &labels[..]) {
            (false, _) => shape(columns, input).is_none().then_some(0),
            (true, []) => None,
            (true, [label]) => Some(*label),
            (true, [one, other, ..]) => {
                let text = |column: &usize| String::from_utf8_lossy(&first[*column]).into_owned();
                return Err(Error::data(format!("the columns '{}' and '{}' are both labels; rename one", text(one), text(other))));
            }
        };
        let width = columns - usize::from(label.is_some());
        let Some(shape) = shape(width, input) else {
            let (name, dims) = (&input.name, input.shape_text());
            let hint = "their number must be that of the input's elements, besides a column 'label', 'y', 'class' or 'target', \
                        or, without names of columns, besides a label in the first";
            let besides = if label.is_some() && names { " besides the label" } else { "" };
            let got = if names { width } else { columns };
            return Err(Error::data(format!("{got} columns{besides} for input '{name}' {dims}; {hint}")));
        };
        let named = label.filter(|_| names).map(|l| String::from_utf8_lossy(&first[l]).into_owned());
        Ok(Self { names, columns, label, named, shape })
    }

    /// What is read as what, as text.
    fn reading(&self) -> String {
        let names = if self.names { "the first row names the columns" } else { "without names of columns" };
        match (&self.named, self.label) {
            (Some(name), _) => format!("{names}, '{name}' is the label"),
            (None, Some(_)) => format!("{names}, the first column is the label"),
            (None, None) => format!("{names}, no column is a label"),
        }
    }
}

/// The shape of a sample of `width` elements, with a leading 1, if the input takes so many. One dimension may be free.
fn shape(width: usize, input: &InputSpec) -> Option<Vec<usize>> {
    let Some(wanted) = input.dims.get(1..) else { return Some(vec![1, width]) };
    let known: Vec<usize> = wanted.iter().copied().flatten().collect();
    let known_count = element_count(&known)?;
    let free = match wanted.len() - known.len() {
        0 => (known_count == width).then_some(1)?,
        1 => width.checked_div(known_count).filter(|free| *free > 0 && free * known_count == width)?,
        _ => return None,
    };
    let dims = wanted.iter().map(|d| d.unwrap_or(free));
    Some(std::iter::once(1).chain(dims).collect())
}

fn line(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn parsed<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// An error about a field, of which the beginning is shown.
fn not(field: &[u8], what: &str) -> Error {
    let text: String = String::from_utf8_lossy(field).chars().take(40).collect();
    Error::data(format!("'{text}' is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, dtype: DType, dims: &[usize]) -> Result<(TableColumn, Option<Vec<i64>>)> {
        let dims: Vec<_> = dims.iter().map(|&d| (d > 0).then_some(d)).collect();
        TableColumn::read("t.csv", text.as_bytes(), &InputSpec::new("x", dtype, dims))
    }

    #[test]
    fn rows_become_samples_and_labels() {
        for (text, dtype, dims, shape, last, labels) in [
            ("1,2\n3,4\n", DType::F32, &[0, 2][..], &[1, 2][..], &[3.0, 4.0][..], None),
            ("7,1,2\n-8,3,4", DType::F32, &[0, 2], &[1, 2], &[3.0, 4.0], Some(vec![7, -8])),
            ("a,b\n1,2\r\n3,4\r\n", DType::F64, &[0, 1, 2], &[1, 1, 2], &[3.0, 4.0], None),
            ("a,Label,b\n1,5,2.5\n", DType::F32, &[0, 2], &[1, 2], &[1.0, 2.5], Some(vec![5])),
            (
                "y,\"a, b\",c,d,e\n5,1,2,3,4\n\n6, 1e1 ,\"2\",-3,.5\n",
                DType::F32,
                &[0, 2, 2],
                &[1, 2, 2],
                &[10.0, 2.0, -3.0, 0.5],
                Some(vec![5, 6]),
            ),
            ("\u{feff}target,a\n0,1\n", DType::F32, &[0, 1], &[1, 1], &[1.0], Some(vec![0])),
            ("a,b,class\n1,2,3\n", DType::I32, &[0, 0], &[1, 2], &[1.0, 2.0], Some(vec![3])),
            ("1,2,3,4", DType::I64, &[], &[1, 4], &[1.0, 2.0, 3.0, 4.0], None),
            ("1,2,3,4", DType::F16, &[0, 2, 0], &[1, 2, 2], &[1.0, 2.0, 3.0, 4.0], None),
            ("1,0", DType::Bool, &[0, 2], &[1, 2], &[1.0, 0.0], None),
            ("255", DType::U8, &[0, 1], &[1, 1], &[255.0], None),
        ] {
            let (table, got) = read(text, dtype, dims).unwrap();
            let sample = table.sample(table.samples() - 1).unwrap();
            assert_eq!((sample.dtype(), sample.shape(), &sample.to_f64_vec()[..]), (dtype, shape, last), "{text}");
            assert_eq!(got, labels, "{text}");
            assert!(table.describe().contains(if labels.is_some() { "is the label" } else { "no column is a label" }));
        }
    }

    #[test]
    fn tables_that_do_not_fit_say_where_and_why() {
        for (text, dtype, dims, reason) in [
            ("", DType::F32, &[0, 2][..], "holds no row"),
            ("\n\n", DType::F32, &[0, 2], "holds no row"),
            ("a,b\n", DType::F32, &[0, 2], "names of columns, but no row"),
            ("1,2\n3,x\n", DType::F32, &[0, 2], "t.csv line 2 column 2: 'x' is not a number"),
            ("a,b\n1,2\n3,\n", DType::F32, &[0, 2], "t.csv line 3 column 2: '' is not a number"),
            ("a,b\n1,2\n3,inf\n", DType::F32, &[0, 2], "line 3 column 2: 'inf' is not a finite f32"),
            ("1,70000\n", DType::F16, &[0, 2], "line 1 column 2: '70000' is not a finite f16"),
            ("1,1e99\n", DType::F32, &[0, 2], "'1e99' is not a finite"),
            ("1,2\n3\n", DType::F32, &[0, 2], "line 2: 1 column where the first row has 2"),
            ("1,2\n3,4,5\n", DType::F32, &[0, 2], "line 2: 3 columns where the first row has 2"),
            ("1.5,2,3\n", DType::F32, &[0, 2], "line 1 column 1: '1.5' is not a label"),
            ("label,a,b\n1,2,3\ncat,2,3\n", DType::F32, &[0, 2], "line 3 column 1: 'cat' is not a label, which is an integer"),
            ("label,Y,b\n1,2,3\n", DType::F32, &[0, 2], "'label' and 'Y' are both labels"),
            ("1,2,3,4\n", DType::F32, &[0, 2], "line 1: 4 columns for input 'x' [?,2]"),
            ("a,b,y\n1,2,3\n", DType::F32, &[0, 3], "line 1: 2 columns besides the label for input 'x' [?,3]"),
            ("1,2,3\n", DType::F32, &[0, 0, 0], "3 columns for input 'x' [?,?,?]"),
            ("1,2,3\n", DType::F32, &[0, usize::MAX, usize::MAX], "3 columns for"),
            ("1,2.5\n", DType::I32, &[0, 2], "column 2: '2.5' is not an integer, which the input takes (i32)"),
            ("1,256\n", DType::U8, &[0, 2], "'256' is not a value of u8"),
            ("1,-1\n", DType::U64, &[0, 2], "'-1' is not a value of u64"),
            ("1,2\n", DType::Bool, &[0, 2], "'2' is not a value of bool"),
            ("1;2\n3;4\n", DType::F32, &[0, 2], "1 columns for input"),
            ("\"1,2\n3,4\n", DType::F32, &[0, 2], "for input 'x'"),
        ] {
            let message = read(text, dtype, dims).unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("t.csv"), "{text}: {message}");
        }
    }
}
