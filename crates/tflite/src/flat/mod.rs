//! The flatbuffer wire format, without a schema.
//!
//! [`File`] and [`Table`] read, [`Builder`] writes; [`Field`] says how a Rust type stands in a table. All of it is safe
//! code over checked slices: hostile bytes give an error, never a panic. What tables and fields there are, is
//! [`crate::schema`]'s business.
//!
//! Generated bindings would need `unsafe`, and would neither share equal vectors nor let the writer place the file
//! identifier; the format itself is small enough to be read in one sitting:
//!
//! - every reference is an unsigned 32-bit distance forward from where it stands;
//! - a vector or a string is a 32-bit count and its elements;
//! - a table starts with a signed distance back to its vtable, which gives, per field, the distance from the table's
//!   start to the field's value, 0 if the field is absent and hence has its default.

mod builder;
mod field;
mod reader;

pub(crate) use builder::{Builder, Entry, Offset};
pub(crate) use field::{Field, TableType};
pub(crate) use reader::{File, Table};

/// How a TFLite file is recognized: bytes 4 to 8.
pub(crate) const IDENTIFIER: [u8; 4] = *b"TFL3";

/// Declares a struct that is a table of the schema, with one line `slot => field: type = default` per field.
///
/// A scalar that has its default is not written.
macro_rules! table {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $slot:literal => $field:ident: $ty:ty = $default:expr),* $(,)? })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, PartialEq)]
            pub(crate) struct $name {
                $($(#[$field_meta])* pub(crate) $field: $ty,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }

            impl $crate::flat::TableType for $name {
                #[allow(unused_variables, reason = "a table may have no fields")]
                fn read(table: &$crate::flat::Table<'_>) -> $crate::error::Result<Self> {
                    Ok(Self { $($field: $crate::flat::Field::read(table, $slot, $default)?,)* })
                }

                fn write(&self, builder: &mut $crate::flat::Builder) -> $crate::error::Result<$crate::flat::Offset> {
                    #[allow(unused_mut, reason = "a table may have no fields")]
                    let mut entries = Vec::new();
                    $($crate::flat::Field::write(&self.$field, $slot, &$default, builder, &mut entries)?;)*
                    builder.table(entries)
                }
            }
        )*
    };
}

pub(crate) use table;
