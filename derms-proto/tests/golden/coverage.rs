//! Which fields of the protocol occur in a set of encoded messages.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

const PACKAGE: &str = "derms.v1";

pub(crate) struct Coverage {
    messages: BTreeMap<String, DescriptorProto>,
    seen: BTreeSet<(String, i32)>,
}

impl Coverage {
    pub(crate) fn new() -> Self {
        let set =
            FileDescriptorSet::decode(&include_bytes!("../../src/generated/derms.v1.binpb")[..])
                .unwrap();
        let mut messages = BTreeMap::new();
        for file in set
            .file
            .into_iter()
            .filter(|file| file.package() == PACKAGE)
        {
            for message in file.message_type {
                for nested in &message.nested_type {
                    let name = format!(".{PACKAGE}.{}.{}", message.name(), nested.name());
                    messages.insert(name, nested.clone());
                }
                messages.insert(format!(".{PACKAGE}.{}", message.name()), message);
            }
        }
        Self {
            messages,
            seen: BTreeSet::new(),
        }
    }

    /// The kinds of message that an envelope can hold.
    pub(crate) fn members(&self, envelope: &str) -> Vec<String> {
        self.messages[&format!(".{PACKAGE}.{envelope}")]
            .field
            .iter()
            .filter(|field| field.oneof_index.is_some() && !field.proto3_optional())
            .map(|field| field.name().to_owned())
            .collect()
    }

    /// Notes the fields of an encoded message, and of those inside.
    pub(crate) fn read(&mut self, message: &str, bytes: &[u8]) {
        self.walk(&format!(".{PACKAGE}.{message}"), bytes);
    }

    /// The fields that were in no message, as `Message.field`.
    pub(crate) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, message) in &self.messages {
            for field in &message.field {
                if !self.seen.contains(&(name.clone(), field.number())) {
                    missing.push(format!("{}.{}", message.name(), field.name()));
                }
            }
        }
        missing
    }

    fn walk(&mut self, name: &str, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let number = i32::try_from(key >> 3).unwrap();
            self.seen.insert((name.to_owned(), number));
            let size = match key & 7 {
                0 => {
                    varint(&mut bytes);
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint(&mut bytes)).unwrap(),
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (value, rest) = bytes.split_at(size);
            bytes = rest;
            let field = self.messages[name]
                .field
                .iter()
                .find(|field| field.number() == number)
                .expect("a golden message has only fields of the protocol");
            let inner = field.type_name().to_owned();
            if field.r#type() == Type::Message && self.messages.contains_key(&inner) {
                self.walk(&inner, value);
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    prost::encoding::decode_varint(bytes).unwrap()
}
