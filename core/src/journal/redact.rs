//! Replaces the texts in inputs and in an agent's state by pseudonyms, by their type.
//!
//! It fails closed: every text is replaced, except those that decisions depend on by more than equality and order. These
//! are kept, and only these:
//!
//! - peer IDs (`PeerId`): they are hashes of public keys. Peers are ordered by them, here and on the other nodes.
//! - node names: rendezvous hashing ranks by their bytes. A node without a configured name is called by its peer ID.
//! - the media types of images: public words, by which manifests are told from other things.
//!
//! Digests and hashes are bytes, not texts, and are kept as well: rendezvous hashing ranks by them, too. Whoever knows an
//! image can tell from its digest that it was here; nobody can tell what an unknown image is called or where it is from.
//!
//! All other texts (registries, repositories, addresses, zones, challenges, details of failures) are only ever compared
//! or passed on. Their pseudonyms are numbered in the order of the texts themselves, so that equality and order stay.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::ser::{self, Serialize, Serializer};

use super::JournalError;
use super::running::Fnv;

/// Fields that hold node names.
const KEPT_FIELDS: &[(&str, &str)] = &[("Config", "name"), ("Member", "name")];
/// Fields with texts that are compared with those of a field of another name, and that name: one text has one pseudonym.
const SAME_TEXTS: &[(&str, &str, &str)] = &[
    ("Failures", "answering", "registry"),
    ("Failures", "moving", "registry"),
    ("Config", "registries", "registry"),
    ("Pacing", "registries", "registry"),
    ("Agent", "limited", "registry"),
];
/// Types that are texts which decisions depend on.
const KEPT_TYPES: &[&str] = &["PeerId"];
/// Fields with media types are kept if they begin with one of these.
const KEPT_MEDIA_TYPES: &[&str] = &["application/vnd.oci.", "application/vnd.docker.", "application/octet-stream"];

/// The pseudonyms of one journal.
#[derive(Clone, Debug, Default)]
pub struct Pseudonyms {
    texts: BTreeSet<(&'static str, String)>,
    names: BTreeMap<(&'static str, String), String>,
}

impl Pseudonyms {
    /// First pass: notes every text in `value` that has to be replaced.
    ///
    /// # Errors
    /// When it does not encode.
    pub fn collect(&mut self, value: &impl Serialize) -> Result<(), JournalError> {
        let texts = RefCell::new(&mut self.texts);
        let note = |label: &'static str, text: &str| {
            texts.borrow_mut().insert((label, text.to_owned()));
            String::new()
        };
        hash(value, &note).map(drop)
    }

    /// Second pass, after everything has been collected: gives every text its pseudonym. The pairs, for whoever has the
    /// journal and wants to understand a redacted one.
    pub fn assign(&mut self) -> impl Iterator<Item = (&str, &str)> {
        let mut numbers: BTreeMap<&'static str, u32> = BTreeMap::new();
        self.names.clear();
        for (label, text) in &self.texts {
            let number = numbers.entry(label).or_default();
            *number += 1;
            // Seven digits: as many as a journal can have texts, so that the numbers' order is the texts'.
            self.names.insert((*label, text.clone()), format!("{label}-{number:07}"));
        }
        self.names.iter().map(|((_, text), name)| (text.as_str(), name.as_str()))
    }

    /// `value` with pseudonyms instead of texts.
    ///
    /// # Errors
    /// When it does not encode or decode.
    pub fn redact<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<T, JournalError> {
        let replace = |label: &'static str, text: &str| {
            // A text that was not collected gets a name that says nothing, too; the proof by replay tells if it matters.
            let known = self.names.get(&(label, text.to_owned()));
            known.cloned().unwrap_or_else(|| format!("{label}-unknown"))
        };
        let wrapped = Redacted { value, replace: &replace, place: Place::default() };
        let bytes = postcard::to_allocvec(&wrapped)
            .map_err(|error| JournalError::Encode { what: "what is redacted", why: error.to_string() })?;
        postcard::from_bytes(&bytes)
            .map_err(|error| JournalError::Decode { what: "what was redacted", why: error.to_string() })
    }
}

/// A hash of everything in `value` that redaction keeps: equal for two values that differ in replaceable texts only.
///
/// # Errors
/// When it does not encode.
pub fn shape(value: &impl Serialize) -> Result<u64, JournalError> {
    hash(value, &|_, _| String::new())
}

fn hash(value: &impl Serialize, replace: &Replace<'_>) -> Result<u64, JournalError> {
    let wrapped = Redacted { value, replace, place: Place::default() };
    postcard::serialize_with_flavor(&wrapped, Fnv::default())
        .map(Fnv::value)
        .map_err(|error| JournalError::Encode { what: "what is redacted", why: error.to_string() })
}

/// The pseudonym of a text in a field of this name.
type Replace<'a> = dyn Fn(&'static str, &str) -> String + 'a;

/// Where in the types we are.
#[derive(Clone, Copy)]
struct Place {
    /// The innermost field's name.
    label: &'static str,
    /// Texts here are kept.
    keep: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self { label: "text", keep: false }
    }
}

impl Place {
    fn field(of: &'static str, field: &'static str) -> Self {
        let same = SAME_TEXTS.iter().find(|(one, other, _)| (*one, *other) == (of, field));
        Self { label: same.map_or(field, |(.., label)| label), keep: KEPT_FIELDS.contains(&(of, field)) }
    }

    fn keeps(self, text: &str) -> bool {
        let media_type = || self.label == "media_type" && KEPT_MEDIA_TYPES.iter().any(|begin| text.starts_with(begin));
        self.keep || text.is_empty() || media_type()
    }
}

/// Serialises as its value, but with texts replaced.
struct Redacted<'a, T: ?Sized> {
    value: &'a T,
    replace: &'a Replace<'a>,
    place: Place,
}

impl<T: Serialize + ?Sized> Serialize for Redacted<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Redactor { inner: serializer, replace: self.replace, place: self.place, of: "" })
    }
}

/// A serializer that replaces texts on their way to another.
struct Redactor<'a, S> {
    inner: S,
    replace: &'a Replace<'a>,
    place: Place,
    /// The struct or variant that is being written.
    of: &'static str,
}

macro_rules! pass {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Redactor<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Redactor<'a, S::SerializeSeq>;
    type SerializeTuple = Redactor<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Redactor<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Redactor<'a, S::SerializeTupleVariant>;
    type SerializeMap = Redactor<'a, S::SerializeMap>;
    type SerializeStruct = Redactor<'a, S::SerializeStruct>;
    type SerializeStructVariant = Redactor<'a, S::SerializeStructVariant>;

    pass! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u128(u128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_f32(f32),
        serialize_f64(f64), serialize_char(char), serialize_bytes(&[u8]), serialize_unit_struct(&'static str),
    }

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        if self.place.keeps(text) {
            self.inner.serialize_str(text)
        } else {
            self.inner.serialize_str(&(self.replace)(self.place.label, text))
        }
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, replace, place, .. } = self;
        inner.serialize_some(&Redacted { value, replace, place })
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let Self { inner, replace, mut place, .. } = self;
        place.keep |= KEPT_TYPES.contains(&name);
        inner.serialize_newtype_struct(name, &Redacted { value, replace, place })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let Self { inner, replace, place, .. } = self;
        inner.serialize_newtype_variant(name, index, variant, &Redacted { value, replace, place })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let Self { inner, replace, place, of } = self;
        Ok(Redactor { inner: inner.serialize_seq(len)?, replace, place, of })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let Self { inner, replace, place, of } = self;
        Ok(Redactor { inner: inner.serialize_tuple(len)?, replace, place, of })
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        let Self { inner, replace, place, of } = self;
        Ok(Redactor { inner: inner.serialize_tuple_struct(name, len)?, replace, place, of })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let Self { inner, replace, place, of } = self;
        Ok(Redactor { inner: inner.serialize_tuple_variant(name, index, variant, len)?, replace, place, of })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let Self { inner, replace, place, of } = self;
        Ok(Redactor { inner: inner.serialize_map(len)?, replace, place, of })
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let Self { inner, replace, place, .. } = self;
        Ok(Redactor { inner: inner.serialize_struct(name, len)?, replace, place, of: name })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let Self { inner, replace, place, .. } = self;
        Ok(Redactor { inner: inner.serialize_struct_variant(name, index, variant, len)?, replace, place, of: variant })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! elements {
    ($($trait:ident :: $method:ident),* $(,)?) => {$(
        impl<S: ser::$trait> ser::$trait for Redactor<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.inner.$method(&Redacted { value, replace: self.replace, place: self.place })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! fields {
    ($($trait:ident),* $(,)?) => {$(
        impl<S: ser::$trait> ser::$trait for Redactor<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
                let place = Place::field(self.of, key);
                self.inner.serialize_field(key, &Redacted { value, replace: self.replace, place })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl<S: ser::SerializeMap> ser::SerializeMap for Redactor<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&Redacted { value, replace: self.replace, place: self.place })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&Redacted { value, replace: self.replace, place: self.place })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests;
