//! Which dataset holds which variable.
//!
//! In: a [`Network`] and the open weights file. Out: the same network, every variable of every layer with the path of
//! its dataset. It knows no graph and reads no dataset; which variables a layer has is in the table of
//! [`crate::layers`].
//!
//! | file | where the variables of a layer are |
//! |---|---|
//! | `.keras` | group `layers/<class in snake case>[_n]/vars`, numbered among the layers of that class in the order of the model; datasets `0`, `1`, …; a nested model has `layers` inside, a wrapper `layer` |
//! | `.h5` | group of the top-level layer's name, attribute `weight_names`; a nested model's variables are listed together, trained ones first |

use std::collections::BTreeMap;

use crate::archive::Naming;
use crate::config::{Inner, Layer, Network, Origin, Variable};
use crate::hdf5::{File, Object};
use crate::{Error, Result, layers};

/// Parts that an attribute may be split into, for HDF5 limits one to 64 kB.
const MAX_PARTS: usize = 1 << 12;

/// Finds the dataset of every variable.
pub(crate) fn bind(network: &mut Network, file: &File, naming: Naming) -> Result<()> {
    declare(network)?;
    let root = file.root()?;
    match naming {
        Naming::ByPlace => {
            // Keras 2.12 called the group otherwise.
            let old = "_layer_checkpoint_dependencies";
            by_place(network, &root, if root.child(old)?.is_some() { old } else { "layers" }, "")
        }
        Naming::ByList => {
            // Weights saved alone are at the root, those of a whole model one level deeper.
            let (group, prefix) = match root.child("model_weights")? {
                Some(group) => (group, "model_weights/"),
                None => (root, ""),
            };
            by_list(network, &group, prefix)
        }
    }
}

/// Fills in which variables each layer has.
fn declare(network: &mut Network) -> Result<()> {
    network.layers.iter_mut().try_for_each(declare_layer)
}

fn declare_layer(layer: &mut Layer) -> Result<()> {
    match &mut layer.inner {
        Inner::Network(inner) => return declare(inner).map_err(|e| e.at(format!("model '{}'", layer.name))),
        Inner::Layer(inner) => declare_layer(inner)?,
        Inner::Nothing => {}
    }
    layer.variables = layers::variables(layer)?;
    Ok(())
}

// --- `.keras` ---

fn by_place(network: &mut Network, root: &Object<'_>, layers_name: &str, prefix: &str) -> Result<()> {
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    for layer in network.layers.iter_mut().filter(|layer| layer.origin != Origin::Operation) {
        let class = snake_case(&layer.class);
        let place = match used.get_mut(&class) {
            Some(n) => {
                *n += 1;
                format!("{prefix}{layers_name}/{class}_{n}")
            }
            None => {
                used.insert(class.clone(), 0);
                format!("{prefix}{layers_name}/{class}")
            }
        };
        bind_layer(layer, root, layers_name, &place).map_err(|e| e.at(format!("layer '{}' ({})", layer.name, layer.class)))?;
    }
    Ok(())
}

fn bind_layer(layer: &mut Layer, root: &Object<'_>, layers_name: &str, place: &str) -> Result<()> {
    match &mut layer.inner {
        Inner::Network(inner) => return by_place(inner, root, layers_name, &format!("{place}/")),
        Inner::Layer(inner) => bind_layer(inner, root, layers_name, &format!("{place}/layer"))?,
        Inner::Nothing => {}
    }
    if layer.variables.is_empty() {
        return Ok(());
    }
    let group = root.descend(&format!("{place}/vars"))?;
    let stored = group.map_or(Ok(0), |g| g.len())?;
    if stored != layer.variables.len() {
        return Err(miscounted(&layer.variables, stored));
    }
    for (i, variable) in layer.variables.iter_mut().enumerate() {
        variable.path = format!("{place}/vars/{i}");
    }
    Ok(())
}

/// Keras' own rule: an underscore before each capital that begins a word.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut name = String::new();
    for (i, c) in letters.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|b| letters.get(b));
        let after = letters.get(i + 1);
        let begins_word = before.is_some() && c.is_uppercase() && after.is_some_and(|a| a.is_lowercase());
        let ends_word = c.is_uppercase() && before.is_some_and(|b| b.is_lowercase());
        if begins_word || ends_word {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

// --- `.h5` ---

fn by_list(network: &mut Network, group: &Object<'_>, prefix: &str) -> Result<()> {
    for layer in &mut network.layers {
        let (name, class) = (layer.name.clone(), layer.class.clone());
        let mut trained = Vec::new();
        let mut fixed = Vec::new();
        gather(layer, &mut trained, &mut fixed)?;
        trained.extend(fixed);
        if trained.is_empty() {
            continue;
        }
        let place = |e: Error| e.at(format!("layer '{name}' ({class})"));
        let names = match group.child(&name).map_err(place)? {
            Some(own) => list(&own, "weight_names").map_err(place)?,
            None => Vec::new(),
        };
        if names.len() != trained.len() {
            let wanted: Vec<Variable> = trained.into_iter().map(|v| v.clone()).collect();
            return Err(place(miscounted(&wanted, names.len())));
        }
        for (variable, stored) in trained.into_iter().zip(names) {
            variable.path = format!("{prefix}{name}/{stored}");
        }
    }
    Ok(())
}

/// The variables of a layer and all inside of it, trained and other ones apart.
fn gather<'a>(layer: &'a mut Layer, trained: &mut Vec<&'a mut Variable>, fixed: &mut Vec<&'a mut Variable>) -> Result<()> {
    let trainable = layer.attributes.flag("trainable", true)?;
    match &mut layer.inner {
        Inner::Network(inner) => inner.layers.iter_mut().try_for_each(|layer| gather(layer, trained, fixed))?,
        Inner::Layer(inner) => gather(inner, trained, fixed)?,
        Inner::Nothing => {}
    }
    for variable in &mut layer.variables {
        if trainable && variable.trainable { trained.push(variable) } else { fixed.push(variable) }
    }
    Ok(())
}

/// A list of names, which may be split into `name0`, `name1`, ….
fn list(group: &Object<'_>, name: &str) -> Result<Vec<String>> {
    if let Some(names) = group.texts(name)? {
        return Ok(names);
    }
    let mut names = Vec::new();
    for part in 0..MAX_PARTS {
        match group.texts(&format!("{name}{part}"))? {
            Some(more) => names.extend(more),
            None => break,
        }
    }
    Ok(names)
}

fn miscounted(wanted: &[Variable], stored: usize) -> Error {
    let names: Vec<_> = wanted.iter().map(|v| v.name).collect();
    if stored == 0 {
        return Error::format(format!(
            "has no variables ({}) in the file; a layer that models share is stored once, and Keras does not load that either: \
             save the model as .h5, or make a layer for each model",
            names.join(", ")
        ));
    }
    Error::format(format!(
        "needs {} variables ({}), but the file stores {stored}; it may be damaged, or quantized or extended (LoRA): save the plain model again",
        names.len(),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snake_case_is_that_of_keras() {
        for (class, expect) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("BatchNormalization", "batch_normalization"),
            ("PReLU", "p_re_lu"),
            ("ReLU", "re_lu"),
            ("LeakyReLU", "leaky_re_lu"),
            ("ELU", "elu"),
            ("ZeroPadding2D", "zero_padding2d"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("RMSNormalization", "rms_normalization"),
        ] {
            assert_eq!(snake_case(class), expect);
        }
    }
}
