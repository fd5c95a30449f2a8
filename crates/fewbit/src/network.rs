//! A network that was loaded, and what can be done with it: plan, calibrate, quantize.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fewbit_ir::{Dim, Graph, ValueId, infer};
use fewbit_passes::{Notes, canonicalize};
use fewbit_quantize::calibrate::{Executor, Requests, Tap, calibrate};
use fewbit_quantize::equalize::{Equalization, Reach};
use fewbit_quantize::observe::{AxisOrder, Sample as Observed};
use fewbit_quantize::{PlanParams, QuantPlan, Recipe, Statistics, TargetSet};
use fewbit_runtime::session::{Arithmetic, TapView, Workspace};

use crate::data::{DataArg, DataOptions, DataSource};
use crate::executable::Executable;
use crate::kept_outputs::KeptOutputs;
use crate::model_file::{ModelFile, load};
use crate::parallel::{Progress, for_each_sample};
use crate::{Error, Result};

/// A float network in canonical form, with the file that it came from.
#[derive(Debug)]
pub struct Network {
    /// The file as it was read; its graph is the canonical one.
    pub file: ModelFile,
    /// What canonicalization did, and what it did not and why.
    pub notes: Notes,
}

impl Network {
    /// Loads a network, fixes input shapes where they are given, and brings it to canonical form.
    pub fn load(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<Self> {
        let mut file = load(path)?;
        let place = path.display().to_string();
        fix_shapes(&mut file.model.graph, shapes).map_err(|e| e.at(&place))?;
        let notes = canonicalize(&mut file.model.graph).map_err(|e| Error::model(format!("{place}: {e}")))?;
        Ok(Self { file, notes })
    }

    /// The canonical graph.
    pub fn graph(&self) -> &Graph {
        &self.file.model.graph
    }

    /// Compiles it.
    pub fn executable(&self, arithmetic: Arithmetic) -> Result<Executable> {
        Executable::new(self.graph(), arithmetic).map_err(|e| e.at(self.file.path.display()))
    }

    /// Opens data for its inputs.
    pub fn open_data(&self, executable: &Executable, data: &[DataArg], options: &DataOptions) -> Result<DataSource> {
        DataSource::open(data, &executable.input_specs(), options)
    }

    /// Decides what becomes of every node.
    pub fn plan(&self, recipe: &Recipe, targets: &TargetSet) -> Result<QuantPlan> {
        QuantPlan::new(self.graph(), recipe, targets).map_err(|e| self.fail(&e))
    }

    /// Gives channels that share a scale similar ranges, which it finds on all samples; the network computes the same. The recipe
    /// says what it is for.
    pub fn equalize(&mut self, recipe: &Recipe, data: &DataSource, threads: usize, progress: &dyn Progress) -> Result<()> {
        let equalization = Equalization::find(self.graph(), recipe.base.weight().map_or(u8::MAX, |w| w.bits));
        let axes: BTreeMap<ValueId, usize> = equalization.values().collect();
        let taps: Vec<ValueId> = axes.keys().copied().collect();
        let executable = self.executable(Arithmetic::Float)?;
        progress.begin("equalize", data.len());
        let state = || (Workspace::new(), Reach::default());
        let seen = for_each_sample(data.len(), threads, progress, state, |(workspace, reach), index| {
            let mut sink = |value, view: TapView<'_>| {
                let last = view.shape().len().saturating_sub(1);
                reach.observe(value, &view.to_f32(), view.shape(), if executable.is_permuted(value) { last } else { axes[&value] });
                Ok(())
            };
            executable.run_with_taps(workspace, &data.sample(index)?, &taps, &mut sink).map(|_| ())
        });
        progress.end();
        let mut reach = Reach::default();
        seen?.iter().for_each(|(_, part)| reach.merge(part));
        let equalized = equalization.apply(&mut self.file.model.graph, &reach);
        equalized.map_err(|e| self.fail(&e))
    }

    /// Runs all samples in float and remembers what `requests` ask for; the network's answers go to `outputs`.
    pub fn calibrate(
        &self,
        executable: &Executable,
        requests: &Requests,
        data: &DataSource,
        threads: usize,
        progress: &dyn Progress,
        outputs: Option<&KeptOutputs>,
    ) -> Result<Statistics> {
        progress.begin("calibrate", data.len());
        let workers = (0..threads.clamp(1, data.len().max(1)))
            .map(|_| Calibrator { executable, data, progress, outputs, workspace: Workspace::new(), pool: None })
            .collect();
        let statistics = calibrate(self.graph(), requests, workers, (0..data.len()).map(Ok));
        progress.end();
        statistics.map_err(|e| Error::data(e.to_string()))
    }

    /// The numbers of a plan: weights rounded to nearest.
    pub fn params(&self, plan: &QuantPlan, statistics: Option<&Statistics>) -> Result<PlanParams> {
        PlanParams::new(plan, self.graph(), statistics).map_err(|e| self.fail(&e))
    }

    /// The quantized network in QDQ form.
    pub fn quantize(&self, plan: &QuantPlan, params: &PlanParams) -> Result<Graph> {
        fewbit_quantize::apply(self.graph(), plan, params).map_err(|e| self.fail(&e))
    }

    /// Its graph with the shapes that the first sample gives its inputs, as what differentiates it must know them.
    pub(crate) fn shaped_by(&self, data: &DataSource) -> Result<Graph> {
        let mut graph = self.graph().clone();
        let shapes: Vec<_> = data.sample(0)?.inputs.into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect();
        fix_shapes(&mut graph, &shapes).map_err(|e| self.fail(&e))?;
        // What computes shapes is folded; values keep their ids.
        canonicalize(&mut graph).map_err(|e| self.fail(&e))?;
        Ok(graph)
    }

    /// An error of this network.
    pub(crate) fn fail(&self, e: &dyn std::fmt::Display) -> Error {
        Error::network(format!("{}: {e}", self.file.path.display()))
    }
}

/// What a statistics file remembers, so that it serves every static recipe and range method: all that a plan asks for,
/// with histograms and means of extremes throughout.
pub fn complete_requests(plan: &QuantPlan, graph: &Graph) -> Result<Requests> {
    let mut requests = plan.statistics_requests(graph).map_err(|e| Error::network(e.to_string()))?;
    for (_, request) in &mut requests {
        request.histogram = true;
        request.mean_min_max = true;
    }
    Ok(requests)
}

/// Reads statistics files and merges them.
pub fn read_statistics(paths: &[PathBuf]) -> Result<Statistics> {
    let mut merged: Option<Statistics> = None;
    for path in paths {
        let place = path.display();
        let bytes = std::fs::read(path).map_err(|e| Error::read(format!("cannot read {place}: {e}")))?;
        let next = Statistics::from_bytes(&bytes).map_err(|e| Error::data(format!("{place}: {e}")))?;
        match &mut merged {
            None => merged = Some(next),
            Some(all) => all.merge(&next).map_err(|e| Error::data(format!("{place}: {e}")))?,
        }
    }
    merged.ok_or_else(|| Error::settings("no statistics file was given"))
}

/// Loads a file and infers shapes, but leaves its operators as they are written.
pub fn load_as_written(path: &Path, shapes: &[(String, Vec<usize>)]) -> Result<ModelFile> {
    let mut file = load(path)?;
    fix_shapes(&mut file.model.graph, shapes).map_err(|e| e.at(path.display()))?;
    Ok(file)
}

/// One worker of a calibration: a workspace, and a pool of its own thread so that kernels do not split their work.
struct Calibrator<'a> {
    executable: &'a Executable,
    data: &'a DataSource,
    progress: &'a dyn Progress,
    outputs: Option<&'a KeptOutputs>,
    workspace: Workspace,
    pool: Option<rayon::ThreadPool>,
}

impl Executor<usize> for Calibrator<'_> {
    fn run(&mut self, index: usize, taps: &[ValueId], tap: &mut Tap<'_>) -> fewbit_quantize::Result<()> {
        let fail = |e: &dyn std::fmt::Display| fewbit_quantize::Error::new(fewbit_quantize::ErrorKind::Executor, e.to_string());
        if self.pool.is_none() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            self.pool = Some(pool.map_err(|e| fail(&e))?);
        }
        let sample = self.data.sample(index).map_err(|e| fail(&e))?;
        let mut observed: fewbit_quantize::Result<()> = Ok(());
        let outcome = self.executable.run_with_taps(&mut self.workspace, &sample, taps, &mut |value, view| {
            let values = view.to_f32();
            observed = tap(value, Observed { values: &values, shape: view.shape() });
            match &observed {
                Ok(()) => Ok(()),
                Err(e) => Err(fewbit_runtime::Error::new(fewbit_runtime::ErrorKind::Value, e.to_string())),
            }
        });
        self.progress.advance();
        observed.map_err(|e| fail(&format!("{}: {e}", sample.origin)))?;
        let outputs = outcome.map_err(|e| fail(&e))?;
        if let Some(kept) = self.outputs {
            kept.keep(index, outputs);
        }
        Ok(())
    }

    fn axis_order(&self, value: ValueId) -> AxisOrder {
        if self.executable.is_permuted(value) { AxisOrder::ChannelsMovedLast } else { AxisOrder::Source }
    }
}

/// Gives inputs the shapes that the user fixed, and infers what follows.
pub(crate) fn fix_shapes(graph: &mut Graph, shapes: &[(String, Vec<usize>)]) -> Result<()> {
    for (name, shape) in shapes {
        let input = graph.inputs.iter().copied().find(|v| graph.value(*v).name == *name);
        let Some(input) = input else {
            let names: Vec<_> = graph.inputs.iter().map(|v| format!("'{}'", graph.value(*v).name)).collect();
            return Err(Error::settings(format!("there is no input '{name}' to give a shape; there are {}", names.join(", "))));
        };
        let Some(ty) = &mut graph.value_mut(input).ty else {
            return Err(Error::settings(format!("input '{name}' is no tensor")));
        };
        let fits =
            ty.dims.as_ref().is_none_or(|d| d.len() == shape.len() && d.iter().zip(shape).all(|(d, n)| d.known().is_none_or(|d| d == *n)));
        if !fits {
            return Err(Error::settings(format!("input '{name}' is {ty} in the file: it cannot have shape {shape:?}")));
        }
        ty.dims = Some(shape.iter().map(|n| Dim::Known(*n)).collect());
    }
    infer::infer(graph).map_err(|e| Error::model(e.to_string()))
}
