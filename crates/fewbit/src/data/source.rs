//! Samples by index, from whatever the user named.
//!
//! In: [`DataArg`]s, the inputs of the network, and [`DataOptions`]. Out: a [`DataSource`], from which any number of
//! threads pull [`Sample`]s. Everything that can be checked without reading every sample is checked on opening.

use std::fmt::Write as _;

use fewbit_tensor::Tensor;

use super::argument::{DataArg, Kind};
use super::array::{Array, ArrayColumn};
use super::folder::Folder;
use super::idx::{self, Pair};
use super::image_plan::ImagePlan;
use super::npz::Npz;
use super::pixel_array::PixelColumn;
use super::preprocess::Preprocess;
use super::shard::{Picks, Shard};
use super::spec::{InputSpec, names};
use super::table::TableColumn;
use crate::{Error, Result};

/// The name that labels go by, in an archive or as an argument.
const LABELS: &str = "y";

/// Which samples are taken, and how images become numbers.
#[derive(Clone, Debug, Default)]
pub struct DataOptions {
    /// Preprocessing of images; arrays are used as they are.
    pub preprocess: Preprocess,
    /// At most so many samples, the first of the data.
    pub limit: Option<usize>,
    /// One share of these samples; all shares together are what an unshared run sees.
    pub shard: Option<Shard>,
}

/// One sample: a batch of 1 for every input of the network.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name and value of each input, in the network's order.
    pub inputs: Vec<(String, Tensor)>,
    /// The class, where the data says it.
    pub label: Option<i64>,
    /// The file, or the array and position in it, for messages.
    pub origin: String,
}

/// What feeds one input.
#[derive(Debug)]
enum Column {
    Images(Folder, Box<ImagePlan>),
    Array(Box<ArrayColumn>),
    Pixels(Box<PixelColumn>),
    Table(Box<TableColumn>),
}

/// Data with random access by sample, from any thread.
#[derive(Debug)]
pub struct DataSource {
    columns: Vec<(String, Column)>,
    labels: Option<Vec<i64>>,
    picks: Picks,
    notes: Vec<String>,
}

impl DataSource {
    /// Opens the data for these inputs of the network and checks that names, types, shapes and lengths agree.
    ///
    /// Labels are the array `y` (of an `.npz`, or `y=labels.npy`), a column of a table, the labels of a pair of IDX files, class folders, or
    /// numbers in the file names.
    pub fn open(data: &[DataArg], inputs: &[InputSpec], options: &DataOptions) -> Result<Self> {
        let mut binding =
            Binding { inputs, preprocess: &options.preprocess, columns: Vec::new(), labels: None, named_labels: None, notes: Vec::new() };
        binding.columns.resize_with(inputs.len(), || None);
        for arg in data {
            binding.bind(arg)?;
        }
        binding.finish(options)
    }

    /// How many samples are taken.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// Whether there is none; an opened source always has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the samples carry labels.
    pub fn has_labels(&self) -> bool {
        self.labels.is_some()
    }

    /// What was decided for the user and may surprise: transposed arrays, where labels come from, what was passed over.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What is read, how, what every setting came to, and the notes: a few lines of text, the last without its end.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (_, column) in &self.columns {
            match column {
                Column::Images(_, plan) => {
                    let _ = write!(text, "{plan}");
                }
                Column::Array(array) => text.push_str(&array.describe()),
                Column::Pixels(pixels) => text.push_str(&pixels.describe()),
                Column::Table(table) => text.push_str(&table.describe()),
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        let _ = write!(text, "{} samples, {} labels", self.len(), if self.has_labels() { "with" } else { "without" });
        text
    }

    /// Reads the `i`-th sample; from any thread, in any order.
    pub fn sample(&self, i: usize) -> Result<Sample> {
        let at = self.picks.at(i).ok_or_else(|| Error::data(format!("sample {i} was asked for, there are {}", self.len())))?;
        let inputs = self.columns.iter().map(|(name, column)| Ok((name.clone(), column.sample(at)?))).collect::<Result<_>>()?;
        let origin = self.columns.first().map_or_else(String::new, |(_, column)| column.origin(at));
        Ok(Sample { inputs, label: self.labels.as_ref().map(|l| l[at]), origin })
    }
}

impl Column {
    fn array(array: Array, input: &InputSpec) -> Result<Self> {
        Ok(Self::Array(Box::new(ArrayColumn::new(array, input)?)))
    }

    fn len(&self) -> usize {
        match self {
            Self::Images(folder, _) => folder.files.len(),
            Self::Array(array) => array.samples(),
            Self::Pixels(pixels) => pixels.samples(),
            Self::Table(table) => table.samples(),
        }
    }

    fn sample(&self, at: usize) -> Result<Tensor> {
        match self {
            Self::Images(folder, plan) => plan.sample(&folder.files[at]),
            Self::Array(array) => array.sample(at),
            Self::Pixels(pixels) => pixels.sample(at),
            Self::Table(table) => table.sample(at),
        }
    }

    fn origin(&self, at: usize) -> String {
        match self {
            Self::Images(folder, _) => folder.files[at].display().to_string(),
            Self::Array(array) => array.origin(at),
            Self::Pixels(pixels) => pixels.origin(at),
            Self::Table(table) => table.origin(at),
        }
    }
}

/// Data on its way to the inputs.
struct Binding<'a> {
    inputs: &'a [InputSpec],
    preprocess: &'a Preprocess,
    /// One place per input.
    columns: Vec<Option<Column>>,
    /// Labels that `y` gives, and where they come from.
    labels: Option<(String, Vec<i64>)>,
    /// Labels that names of files or folders carry; `y` goes before them.
    named_labels: Option<(String, Vec<i64>)>,
    notes: Vec<String>,
}

impl Binding<'_> {
    /// Gives one argument to the inputs that it is for.
    fn bind(&mut self, arg: &DataArg) -> Result<()> {
        let place = arg.path.display().to_string();
        let kind = Kind::of(&arg.path)?;
        if arg.input.as_deref() == Some(LABELS) && self.position(LABELS).is_none() {
            let labels = match kind {
                Kind::Npy => Array::npy(&arg.path)?,
                Kind::Npz => Self::only_array(Npz::open(&arg.path)?, LABELS, &place)?,
                Kind::Idx => idx::open(&arg.path)?,
                Kind::IdxPair(Pair { labels: Some(labels), .. }) => idx::open(&labels)?,
                Kind::Folder | Kind::Image | Kind::Table | Kind::IdxPair(_) => {
                    return Err(Error::data(format!("{place}: labels are an array of integers, in .npy, .npz or IDX")));
                }
            };
            return self.put_labels(&labels);
        }
        if kind == Kind::Npz && arg.input.is_none() {
            return self.bind_archive(Npz::open(&arg.path)?, &place);
        }
        let index = self.target(arg.input.as_deref(), &place)?;
        let input = &self.inputs[index];
        let column = match kind {
            Kind::Folder => self.images(Folder::open(&arg.path)?, input)?,
            Kind::Image => self.images(Folder::of_one(&arg.path), input)?,
            Kind::Npy => Column::array(Array::npy(&arg.path)?, input)?,
            Kind::Npz => Column::array(Self::only_array(Npz::open(&arg.path)?, &input.name, &place)?, input)?,
            Kind::Table => {
                let (table, labels) = TableColumn::open(&arg.path, input)?;
                if let Some(labels) = labels {
                    self.take_labels(&place, labels)?;
                }
                Column::Table(Box::new(table))
            }
            Kind::Idx => self.idx(idx::open(&arg.path)?, input)?,
            Kind::IdxPair(pair) => {
                if let Some(labels) = &pair.labels {
                    let labels = idx::open(labels)?;
                    self.named_labels.get_or_insert((labels.place.clone(), labels.integers()?));
                }
                self.idx(idx::open(&pair.images)?, input)?
            }
        };
        self.put(index, column)
    }

    /// Arrays of an archive go to the inputs of their names; else the first goes to the only input. `y` is labels.
    fn bind_archive(&mut self, mut archive: Npz, place: &str) -> Result<()> {
        let names = archive.names().to_owned();
        let single = self.inputs.len() == 1 && !names.iter().any(|n| self.position(n).is_some());
        let first = names.iter().position(|n| n != LABELS).filter(|_| single);
        let mut bound = false;
        for (i, name) in names.iter().enumerate() {
            let inside = format!("{place}[{name}]");
            let index = if first == Some(i) { Some(0) } else { self.position(name) };
            if let Some(index) = index {
                let column = Column::array(Array::npy_in(inside, archive.store(i)?)?, &self.inputs[index])?;
                self.put(index, column)?;
                bound = true;
            } else if name == LABELS {
                self.put_labels(&Array::npy_in(inside, archive.store(i)?)?)?;
            } else {
                self.notes.push(format!("{inside} is the name of no input and is passed over"));
            }
        }
        if bound || names == [LABELS] {
            return Ok(());
        }
        Err(Error::data(format!(
            "{place} holds the arrays {}, but the network's inputs are {}; name the arrays like the inputs, or give INPUT=FILE for each",
            names.join(", "),
            super::spec::names(self.inputs),
        )))
    }

    /// The array of that name, or the only one that is no labels.
    fn only_array(mut archive: Npz, name: &str, place: &str) -> Result<Array> {
        let names = archive.names();
        let mut others = names.iter().enumerate().filter(|(_, n)| *n != LABELS).map(|(i, _)| i);
        let index = names.iter().position(|n| n == name).or_else(|| others.next().filter(|_| others.next().is_none()));
        let Some(index) = index else {
            return Err(Error::data(format!("{place} holds the arrays {}, none of them is named '{name}'", names.join(", "))));
        };
        Array::npy_in(format!("{place}[{}]", names[index]), archive.store(index)?)
    }

    fn images(&mut self, mut folder: Folder, input: &InputSpec) -> Result<Column> {
        let plan = ImagePlan::new(self.preprocess, input)?;
        self.notes.append(&mut folder.notes);
        if let Some(labels) = folder.labels.take() {
            self.named_labels.get_or_insert((format!("the images for input '{}'", input.name), labels));
        }
        Ok(Column::Images(folder, Box::new(plan)))
    }

    /// Grey images are made as image files are; other arrays are used as they are.
    fn idx(&self, array: Array, input: &InputSpec) -> Result<Column> {
        if PixelColumn::takes(&array) {
            return Ok(Column::Pixels(Box::new(PixelColumn::new(array, self.preprocess, input)?)));
        }
        Column::array(array, input)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|i| i.name == name)
    }

    /// The input that is meant: the one that is named, or the only one.
    fn target(&self, name: Option<&str>, place: &str) -> Result<usize> {
        let inputs = names(self.inputs);
        match name {
            Some(name) => self
                .position(name)
                .ok_or_else(|| Error::data(format!("there is no input '{name}' for {place}; the network's inputs are {inputs}"))),
            None if self.inputs.len() == 1 => Ok(0),
            None => Err(Error::data(format!("the network's inputs are {inputs}; say which of them {place} is for, as INPUT={place}"))),
        }
    }

    fn put(&mut self, index: usize, column: Column) -> Result<()> {
        match self.columns[index].replace(column) {
            None => Ok(()),
            Some(_) => Err(Error::data(format!("input '{}' is given data twice; leave one of them out", self.inputs[index].name))),
        }
    }

    fn put_labels(&mut self, labels: &Array) -> Result<()> {
        self.take_labels(&labels.place, labels.integers()?)
    }

    fn take_labels(&mut self, place: &str, labels: Vec<i64>) -> Result<()> {
        if let Some((other, _)) = &self.labels {
            return Err(Error::data(format!("labels come from {other} and from {place}; leave one of them out")));
        }
        self.labels = Some((place.to_owned(), labels));
        Ok(())
    }

    /// Checks that every input has data, and that all lengths agree.
    fn finish(mut self, options: &DataOptions) -> Result<DataSource> {
        let mut columns = Vec::with_capacity(self.inputs.len());
        for (input, column) in self.inputs.iter().zip(self.columns) {
            let none = || {
                Error::data(format!("input '{0}' ({1} {2}) is given no data; give {0}=FILE", input.name, input.dtype, input.shape_text()))
            };
            columns.push((input.name.clone(), column.ok_or_else(none)?));
        }
        let Some((first, column)) = columns.first() else {
            return Err(Error::data("the network has no inputs, so there is nothing to give it"));
        };
        let total = column.len();
        if let Some((name, other)) = columns.iter().find(|(_, c)| c.len() != total) {
            return Err(Error::data(format!(
                "input '{first}' has {total} samples, but input '{name}' has {}; they must be as many",
                other.len()
            )));
        }
        let labels = self.labels.or(self.named_labels);
        if let Some((place, labels)) = labels.as_ref().filter(|(_, l)| l.len() != total) {
            return Err(Error::data(format!("{place} holds {} labels for {total} samples; they must be as many", labels.len())));
        }
        for (_, column) in &columns {
            if let Column::Array(array) = column {
                self.notes.extend(array.note());
            }
        }
        if *self.preprocess != Preprocess::default() && columns.iter().all(|(_, c)| matches!(c, Column::Array(_) | Column::Table(_))) {
            self.notes.push("preprocessing applies to images; these arrays are used as they are".into());
        }
        let picks = Picks::new(total, options.limit, options.shard)?;
        Ok(DataSource { columns, labels: labels.map(|(_, l)| l), picks, notes: self.notes })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fewbit_tensor::DType;
    use zip::CompressionMethod::{Deflated, Stored};

    use super::*;
    use crate::data::testing::{gzip, idx, npy, npy_f32, npz, write_image};

    fn input(name: &str, dtype: DType, dims: &[usize]) -> InputSpec {
        InputSpec::new(name, dtype, dims.iter().map(|&d| (d > 0).then_some(d)).collect::<Vec<_>>())
    }

    /// A folder with one file of every kind, good and bad.
    fn files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let x = npy_f32(&[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let ids = npy("<i4", &[3, 1], &[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        let y = npy("|u1", &[3], &[7, 8, 9]);
        let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
        write("x.npy", &x);
        write("y.npy", &y);
        write("nan.npy", &npy_f32(&[2, 2], &[0.0, 1.0, 2.0, f32::NAN]));
        write("pair.npy", &npy_f32(&[2, 2], &[0.0; 4]));
        write("cut.npy", &x[..x.len() - 1]);
        write("pickle.npy", b"\x80\x04\x95cos\nsystem");
        write("data.txt", b"1 2 3");
        write("x.csv", b"a,label,b\n0,7,1\n2,8,3\n4,9,5\n");
        write("no-label.csv", b"0,1\n2,3\n4,5\n");
        for name in ["mnist", "one"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let images = idx(0x08, &[3, 1, 2], &[0, 1, 2, 3, 51, 255]);
        write("mnist/train-images-idx3-ubyte", &images);
        write("mnist/train-labels-idx1-ubyte.gz", &gzip(&idx(0x08, &[3], &[7, 8, 9])));
        write("mnist/t10k-images.idx3-ubyte.gz", &gzip(&images));
        write("mnist/t10k-labels.idx1-ubyte", &idx(0x08, &[2], &[7, 8]));
        write("one/train-images-idx3-ubyte.gz", &gzip(&images));
        write("floats.idx", &idx(0x0d, &[1, 2], &[0x3f, 0x80, 0, 0, 0x40, 0, 0, 0]));
        write("stored.npz", &npz(Stored, &[("x", &x), ("y", &y)]));
        write("deflated.npz", &npz(Deflated, &[("x", &x), ("y", &y), ("extra", &x)]));
        write("two.npz", &npz(Deflated, &[("ids", &ids), ("mask", &x)]));
        write("labels.npz", &npz(Deflated, &[("y", &y)]));
        write("short.npz", &npz(Stored, &[("x", &x), ("y", &npy("|u1", &[2], &[7, 8]))]));
        write("float-labels.npz", &npz(Stored, &[("x", &x), ("y", &x)]));
        write("inner-cut.npz", &npz(Stored, &[("x", &x[..x.len() - 1])]));
        write("empty.npz", &npz(Stored, &[]));
        let whole = npz(Deflated, &[("x", &x)]);
        write("cut.npz", &whole[..whole.len() / 2]);
        let mut flipped = npz(Stored, &[("x", &x)]);
        flipped[60] ^= 0xff;
        write("flipped.npz", &flipped);
        let mut damaged = npz(Deflated, &[("x", &x)]);
        damaged[45..60].fill(0xff);
        write("damaged.npz", &damaged);
        for name in ["images", "labelled", "mixed", "none"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in ["images/1.png", "images/2.bmp", "images/3.webp", "labelled/0_5.png", "labelled/1_6.png", "mixed/0.png"] {
            write_image(&at(name), 5, 4);
        }
        write_image(&at("mixed/1.png"), 6, 4);
        let png = std::fs::read(at("images/1.png")).unwrap();
        std::fs::create_dir(at("damaged")).unwrap();
        write("damaged/0.png", &png[..png.len() - 20]);
        write("damaged/1.png", b"not an image");
        write("damaged/2.png", b"");
        folder
    }

    /// Opens `path` or `input=path` arguments, with paths relative to the folder.
    fn open(folder: &Path, data: &[&str], inputs: &[InputSpec], options: &DataOptions) -> Result<DataSource> {
        let arg = |text: &&str| match text.split_once('=') {
            Some((name, file)) => DataArg::named(name, folder.join(file)),
            None => DataArg::new(folder.join(text)),
        };
        DataSource::open(&data.iter().map(arg).collect::<Vec<_>>(), inputs, options)
    }

    #[test]
    fn samples_of_every_kind_are_read() {
        let folder = files();
        let pairs = || vec![input("in", DType::F32, &[0, 2])];
        let both = || vec![input("mask", DType::F32, &[0, 2]), input("ids", DType::I64, &[0, 1])];
        let image = || vec![input("in", DType::F32, &[0, 4, 5, 3])];
        for (data, inputs, count, last, label) in [
            (&["x.npy"][..], pairs(), 3, &[4.0, 5.0][..], None),
            (&["in=x.npy"], pairs(), 3, &[4.0, 5.0], None),
            (&["x.npy", "y=y.npy"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["x.npy", "y=labels.npz"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["x.npy", "labels.npz"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["stored.npz"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["deflated.npz"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["in=stored.npz"], pairs(), 3, &[4.0, 5.0], None),
            (&["stored.npz"], vec![input("y", DType::I32, &[0])], 3, &[9.0], None),
            (&["two.npz"], both(), 3, &[4.0, 5.0], None),
            (&["mask=x.npy", "ids=two.npz"], both(), 3, &[4.0, 5.0], None),
            (&["two.npz", "labels.npz"], both(), 3, &[4.0, 5.0], Some(9)),
            (&["x.csv"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["in=no-label.csv", "y=y.npy"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["mnist/train"], pairs(), 3, &[0.2, 1.0], Some(9)),
            (&["mnist/train"], vec![input("in", DType::F32, &[0, 1, 2, 1])], 3, &[0.2, 1.0], Some(9)),
            (&["one"], pairs(), 3, &[0.2, 1.0], None),
            (&["mnist/train-images-idx3-ubyte", "y=mnist/train"], pairs(), 3, &[0.2, 1.0], Some(9)),
            (&["x.npy", "y=mnist/train-labels-idx1-ubyte.gz"], pairs(), 3, &[4.0, 5.0], Some(9)),
            (&["floats.idx"], pairs(), 1, &[1.0, 2.0], None),
            (&["images"], image(), 3, &[0.0, 0.0, 7.0 / 255.0], None),
            (&["images/1.png"], image(), 1, &[0.0, 0.0, 7.0 / 255.0], None),
            (&["labelled"], image(), 2, &[0.0, 0.0, 7.0 / 255.0], Some(6)),
        ] {
            let source = open(folder.path(), data, &inputs, &DataOptions::default()).unwrap();
            assert_eq!((source.len(), source.has_labels()), (count, label.is_some()), "{data:?}");
            let sample = source.sample(count - 1).unwrap();
            assert_eq!(sample.label, label, "{data:?}");
            assert_eq!(
                sample.inputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
                inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>()
            );
            let (_, tensor) = &sample.inputs[0];
            assert_eq!(tensor.shape()[0], 1);
            assert_eq!(tensor.to_f32()[..last.len()], *last, "{data:?}");
            assert!(!sample.origin.is_empty() && source.sample(count).is_err());
        }
    }

    #[test]
    fn bad_input_is_refused_with_the_way_out() {
        let folder = files();
        let one = vec![input("in", DType::F32, &[0, 2])];
        let two = vec![input("mask", DType::F32, &[0, 2]), input("ids", DType::I64, &[0, 1])];
        let image = vec![input("in", DType::F32, &[0, 5, 5, 3])];
        let wide = vec![input("in", DType::F32, &[0, 4, 5, 3])];
        for (data, inputs, reason) in [
            (&["missing.npy"][..], &one, "cannot read"),
            (&["data.txt"], &one, "folder of images, an image (png"),
            (&["none"], &image, "holds no image: looked for .png, .jpg"),
            (&["cut.npy"], &one, "takes 24 bytes, but 23 follow"),
            (&["pickle.npy"], &one, "does not begin as one"),
            (&["nan.npy"], &one, "nan.npy sample 1: element [1] is NaN"),
            (&["other=x.npy"], &one, "no input 'other'"),
            (&["x.npy", "in=x.npy"], &one, "given data twice"),
            (&["x.npy"], &two, "say which of them"),
            (&["images"], &two, "say which of them"),
            (&["mask=x.npy"], &two, "input 'ids' (i64 [?,1]) is given no data; give ids=FILE"),
            (&["mask=pair.npy", "ids=two.npz"], &two, "input 'mask' has 2 samples, but input 'ids' has 3"),
            (&["stored.npz"], &two, "holds the arrays x, y, but the network's inputs are mask, ids"),
            (&["two.npz"], &one, "[3, 1], but input 'in'"),
            (&["in=two.npz"], &one, "none of them is named 'in'"),
            (&["labels.npz"], &one, "input 'in' (f32 [?,2]) is given no data"),
            (&["short.npz"], &one, "2 labels for 3 samples"),
            (&["x.npy", "y=short.npz"], &one, "2 labels for 3 samples"),
            (&["stored.npz", "y=y.npy"], &one, "labels come from"),
            (&["float-labels.npz"], &one, "are no labels"),
            (&["x.npy", "y=images"], &one, "labels are an array"),
            (&["inner-cut.npz"], &one, "takes 24 bytes, but 23 follow"),
            (&["empty.npz"], &one, "holds no array"),
            (&["cut.npz"], &one, "not a whole .npz"),
            (&["damaged.npz"], &one, "damaged.npz[x]"),
            (&["flipped.npz"], &one, "flipped.npz[x]"),
            (&["images"], &one, "does not take images"),
            (&["mnist"], &one, "holds several sets; give one of"),
            (&["mnist/t10k"], &one, "t10k-labels.idx1-ubyte holds 2 labels for 3 samples"),
            (&["mnist/train"], &two, "say which of them"),
            (&["mnist/train"], &image, "the images are [1, 2] (height, width) and grey"),
            (&["x.npy", "y=one"], &one, "labels are an array"),
            (&["x.npy", "y=x.csv"], &one, "labels are an array"),
            (&["x.csv", "y=y.npy"], &one, "labels come from"),
            (&["mask=x.csv"], &two, "input 'ids' (i64 [?,1]) is given no data"),
            (&["images"], &image, "the image is 5x4 (width x height), input 'in' [?,5,5,3] takes 5x5; add --resize 5x5 to change"),
            (&["images"], &image, "or --resize 5 --crop 5"),
            (&["mixed"], &wide, "1.png: the image is 6x4"),
            (&["damaged/0.png"], &image, "cannot decode"),
            (&["damaged/1.png"], &image, "cannot decode"),
            (&["damaged/2.png"], &image, "cannot decode"),
            (&["x.npy"], &Vec::new(), "the network's inputs are "),
            (&[], &Vec::new(), "has no inputs"),
        ] {
            let read = open(folder.path(), data, inputs, &DataOptions::default())
                .and_then(|s| (0..s.len()).try_for_each(|i| s.sample(i).map(|_| ())));
            let message = read.expect_err(&format!("{data:?}")).to_string();
            assert!(message.contains(reason), "{data:?}: {message}");
        }
    }

    #[test]
    fn notes_say_what_was_decided() {
        let folder = files();
        let one = vec![input("in", DType::F32, &[0, 2])];
        let preprocess = Preprocess::from_toml("resize = 3").unwrap();
        for (data, preprocess, inputs, note) in [
            ("deflated.npz", Preprocess::default(), one.clone(), Some("[extra] is the name of no input")),
            ("x.npy", preprocess, one.clone(), Some("these arrays are used as they are")),
            ("x.npy", Preprocess::default(), vec![input("in", DType::F32, &[0, 2, 1])], Some("axis 2 of size 1")),
            ("labelled", Preprocess::default(), vec![input("in", DType::F32, &[0, 4, 5, 3])], Some("numbers after the underscore")),
            ("x.npy", Preprocess::default(), one, None),
        ] {
            let options = DataOptions { preprocess, ..DataOptions::default() };
            let source = open(folder.path(), &[data], &inputs, &options).unwrap();
            match note {
                Some(note) => assert!(source.notes().iter().any(|n| n.contains(note)), "{data}: {:?}", source.notes()),
                None => assert!(source.notes().is_empty()),
            }
            let text = source.describe();
            assert!(text.contains("input 'in'") && source.notes().iter().all(|n| text.contains(n.as_str())), "{text}");
        }
    }

    #[test]
    fn shares_hold_every_sample_once_and_threads_read_at_will() {
        let folder = files();
        let one = vec![input("in", DType::F32, &[0, 2])];
        let read = |shard: Option<&str>, limit| {
            let options = DataOptions { limit, shard: shard.map(|s| s.parse().unwrap()), ..DataOptions::default() };
            let source = open(folder.path(), &["deflated.npz"], &one, &options).unwrap();
            let mut values = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..source.len())
                    .map(|i| {
                        scope.spawn({
                            let source = &source;
                            move || source.sample(i).unwrap()
                        })
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).map(|s| (s.inputs[0].1.to_f32()[0], s.label)).collect::<Vec<_>>()
            });
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            values
        };
        assert_eq!(read(None, None), [(0.0, Some(7)), (2.0, Some(8)), (4.0, Some(9))]);
        assert_eq!(read(Some("1/2"), None), [(0.0, Some(7)), (4.0, Some(9))]);
        assert_eq!(read(Some("2/2"), None), [(2.0, Some(8))]);
        assert_eq!(read(Some("1/2"), Some(2)), [(0.0, Some(7))]);
    }
}
