//! The one function of `serde_magnus` that the extension calls, with its conventions: a struct's fields become Symbol
//! keys, a map's keys keep their type, an enum's variant without data becomes a String. Variants with data are
//! an error, because no value that crosses the seam has them.

use std::fmt::{Display, Formatter, Result as Written};

use magnus::{value::ReprValue, Error as Exception, IntoValue, RArray, RHash, Ruby, Value};
use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct,
    Serializer,
};

/// The Ruby value of a Rust value.
pub fn serialize<Input: Serialize + ?Sized>(ruby: &Ruby, input: &Input) -> Result<Value, Exception> {
    input.serialize(Translation { ruby }).map_err(|error| match error {
        Error::Ruby(exception) => exception,
        Error::Unsupported(message) => Exception::new(ruby.exception_type_error(), message),
    })
}

#[derive(Debug)]
pub enum Error {
    Ruby(Exception),
    Unsupported(String),
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Written {
        match self {
            Self::Ruby(exception) => exception.fmt(formatter),
            Self::Unsupported(message) => formatter.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl serde::ser::Error for Error {
    fn custom<Message: Display>(message: Message) -> Self {
        Self::Unsupported(message.to_string())
    }
}

impl From<Exception> for Error {
    fn from(exception: Exception) -> Self {
        Self::Ruby(exception)
    }
}

#[derive(Clone, Copy)]
struct Translation<'r> {
    ruby: &'r Ruby,
}

struct List<'r> {
    translation: Translation<'r>,
    array: RArray,
}

struct Table<'r> {
    translation: Translation<'r>,
    hash: RHash,
    key: Value,
}

impl<'r> Translation<'r> {
    fn list(self) -> List<'r> {
        List { translation: self, array: self.ruby.ary_new() }
    }

    fn table(self) -> Table<'r> {
        Table { translation: self, hash: self.ruby.hash_new(), key: self.ruby.qnil().as_value() }
    }
}

macro_rules! as_is {
    ($($method:ident $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<Value, Error> {
            Ok(value.into_value_with(self.ruby))
        })*
    };
}

impl<'r> Serializer for Translation<'r> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List<'r>;
    type SerializeTuple = List<'r>;
    type SerializeTupleStruct = List<'r>;
    type SerializeTupleVariant = Impossible<Value, Error>;
    type SerializeMap = Table<'r>;
    type SerializeStruct = Table<'r>;
    type SerializeStructVariant = Impossible<Value, Error>;

    as_is!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8,
        serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_f32 f32, serialize_f64 f64,
        serialize_char char, serialize_str &str
    );

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Error> {
        Ok(self.ruby.str_from_slice(value).as_value())
    }

    fn serialize_none(self) -> Result<Value, Error> {
        self.serialize_unit()
    }

    fn serialize_some<Inner: Serialize + ?Sized>(self, value: &Inner) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(self.ruby.qnil().as_value())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<Value, Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<Inner: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &Inner,
    ) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<Inner: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _value: &Inner,
    ) -> Result<Value, Error> {
        Err(with_data(variant))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<List<'r>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple(self, _length: usize) -> Result<List<'r>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<List<'r>, Error> {
        Ok(self.list())
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(with_data(variant))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Table<'r>, Error> {
        Ok(self.table())
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Table<'r>, Error> {
        Ok(self.table())
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(with_data(variant))
    }
}

fn with_data(variant: &str) -> Error {
    Error::custom(format!("the variant {variant} carries data, which has no Ruby form here"))
}

impl SerializeSeq for List<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_element<Item: Serialize + ?Sized>(&mut self, item: &Item) -> Result<(), Error> {
        Ok(self.array.push(item.serialize(self.translation)?)?)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.array.as_value())
    }
}

impl SerializeTuple for List<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_element<Item: Serialize + ?Sized>(&mut self, item: &Item) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, item)
    }

    fn end(self) -> Result<Value, Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeTupleStruct for List<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<Item: Serialize + ?Sized>(&mut self, item: &Item) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, item)
    }

    fn end(self) -> Result<Value, Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Table<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<Key: Serialize + ?Sized>(&mut self, key: &Key) -> Result<(), Error> {
        self.key = key.serialize(self.translation)?;
        Ok(())
    }

    fn serialize_value<Item: Serialize + ?Sized>(&mut self, item: &Item) -> Result<(), Error> {
        Ok(self.hash.aset(self.key, item.serialize(self.translation)?)?)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.hash.as_value())
    }
}

impl SerializeStruct for Table<'_> {
    type Ok = Value;
    type Error = Error;

    fn serialize_field<Item: Serialize + ?Sized>(&mut self, name: &'static str, item: &Item) -> Result<(), Error> {
        let key = self.translation.ruby.to_symbol(name);
        Ok(self.hash.aset(key, item.serialize(self.translation)?)?)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.hash.as_value())
    }
}
