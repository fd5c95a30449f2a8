//! How Rust types stand in tables.

use bytes::Bytes;

use super::{Builder, Entry, Offset, Table, builder::ALIGNMENT};
use crate::error::Result;

/// A struct that is a table; made by the `table!` macro.
pub(crate) trait TableType: Sized {
    /// Reads every field.
    fn read(table: &Table<'_>) -> Result<Self>;
    /// Writes what the fields refer to, then the table.
    fn write(&self, builder: &mut Builder) -> Result<Offset>;
}

/// A type that a field of a table may have.
pub(crate) trait Field: Sized {
    /// The field at `slot`, or `default` where the table leaves it out.
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self>;
    /// Writes what the field refers to and adds its entry, unless it has its default.
    fn write(&self, slot: u16, default: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()>;
}

/// A type that vectors are made of.
pub(crate) trait Element: Sized {
    /// The vector at `slot`.
    fn read_vector(table: &Table<'_>, slot: u16) -> Result<Option<Vec<Self>>>;
    /// Writes a vector.
    fn write_vector(elements: &[Self], builder: &mut Builder) -> Result<Offset>;
}

macro_rules! scalar {
    ($($ty:ident)*) => {
        $(
            impl Field for $ty {
                fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
                    Ok(table.scalar(slot)?.map_or(default, $ty::from_le_bytes))
                }

                fn write(&self, slot: u16, default: &Self, _: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
                    if self != default {
                        entries.push(Entry::Scalar { slot, bytes: self.to_le_bytes().to_vec() });
                    }
                    Ok(())
                }
            }

            impl Element for $ty {
                fn read_vector(table: &Table<'_>, slot: u16) -> Result<Option<Vec<Self>>> {
                    table.scalars(slot, $ty::from_le_bytes)
                }

                fn write_vector(elements: &[Self], builder: &mut Builder) -> Result<Offset> {
                    let bytes: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
                    builder.vector(elements.len(), &bytes, size_of::<$ty>())
                }
            }
        )*
    };
}

scalar! { i8 u8 i32 u32 i64 u64 f32 }

impl Field for bool {
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        Ok(table.scalar::<1>(slot)?.map_or(default, |[b]| b != 0))
    }

    fn write(&self, slot: u16, default: &Self, _: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        if self != default {
            entries.push(Entry::Scalar { slot, bytes: vec![u8::from(*self)] });
        }
        Ok(())
    }
}

/// Absent and empty are the same; what is no UTF-8 is replaced.
impl Field for String {
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        Ok(table.blob(slot)?.map_or(default, |b| String::from_utf8_lossy(&b).into_owned()))
    }

    fn write(&self, slot: u16, default: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        if self != default {
            entries.push(Entry::Reference { slot, to: builder.string(self)? });
        }
        Ok(())
    }
}

/// Tensor data: aligned to 16 bytes, not copied when read. Absent and empty are the same.
impl Field for Bytes {
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        Ok(table.blob(slot)?.unwrap_or(default))
    }

    fn write(&self, slot: u16, _: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        if !self.is_empty() {
            entries.push(Entry::Reference { slot, to: builder.vector(self.len(), self, ALIGNMENT)? });
        }
        Ok(())
    }
}

/// An absent vector reads as an empty one; an empty one is written, since runtimes expect it.
impl<E: Element> Field for Vec<E> {
    fn read(table: &Table<'_>, slot: u16, default: Self) -> Result<Self> {
        Ok(E::read_vector(table, slot)?.unwrap_or(default))
    }

    fn write(&self, slot: u16, _: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        entries.push(Entry::Reference { slot, to: E::write_vector(self, builder)? });
        Ok(())
    }
}

impl<E: Element> Field for Option<Vec<E>> {
    fn read(table: &Table<'_>, slot: u16, _: Self) -> Result<Self> {
        E::read_vector(table, slot)
    }

    fn write(&self, slot: u16, default: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        match (self, default) {
            (Some(elements), _) => elements.write(slot, &Vec::new(), builder, entries),
            (None, _) => Ok(()),
        }
    }
}

impl<T: TableType> Field for Option<T> {
    fn read(table: &Table<'_>, slot: u16, _: Self) -> Result<Self> {
        table.table(slot)?.map(|t| T::read(&t)).transpose()
    }

    fn write(&self, slot: u16, _: &Self, builder: &mut Builder, entries: &mut Vec<Entry>) -> Result<()> {
        if let Some(table) = self {
            entries.push(Entry::Reference { slot, to: table.write(builder)? });
        }
        Ok(())
    }
}

impl<T: TableType> Element for T {
    fn read_vector(table: &Table<'_>, slot: u16) -> Result<Option<Vec<Self>>> {
        table.tables(slot)
    }

    fn write_vector(elements: &[Self], builder: &mut Builder) -> Result<Offset> {
        let offsets = elements.iter().map(|e| e.write(builder)).collect::<Result<Vec<_>>>()?;
        builder.references(&offsets)
    }
}
