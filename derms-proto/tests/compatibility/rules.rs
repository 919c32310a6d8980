//! What two versions of the link must agree on, as pure functions over descriptors.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// Field numbers from here on belong to vendors.
const VENDORS: i32 = 100;
/// Messages that carry every other: their own fields are below 10, what they carry from 10 on.
const ENVELOPES: [&str; 2] = ["derms.v1.AgentMessage", "derms.v1.HeadendMessage"];

/// Everything in `new` that a peer built from `old` would not understand.
pub(crate) fn breaks(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Index::of(old), Index::of(new));
    let mut found = Vec::new();
    for (name, old) in &old.messages {
        match new.messages.get(name) {
            Some(new) => message(name, old, new, &mut found),
            None => found.push(format!("message {name} is gone")),
        }
    }
    for (name, old) in &old.enums {
        match new.enums.get(name) {
            Some(new) => numbering("value", name, &(*old).into(), &(*new).into(), &mut found),
            None => found.push(format!("enum {name} is gone")),
        }
    }
    for (name, old) in &old.services {
        match new.services.get(name) {
            Some(new) => service(name, old, new, &mut found),
            None => found.push(format!("service {name} is gone")),
        }
    }
    found
}

/// Everything in `set` that breaks the numbering rules, whatever was there before.
pub(crate) fn faults(set: &FileDescriptorSet) -> Vec<String> {
    let index = Index::of(set);
    let mut found = Vec::new();
    for (name, message) in &index.messages {
        for field in &message.field {
            let what = format!("{name}.{}", field.name());
            if field.number() >= VENDORS {
                found.push(format!(
                    "{what} has number {}, which belongs to vendors",
                    field.number()
                ));
            } else if ENVELOPES.contains(&name.as_str()) {
                let body = oneof(message, field).is_some();
                if body != (field.number() >= 10) {
                    found.push(format!(
                        "{what} has number {}: envelope fields have 1 to 9, bodies 10 to 99",
                        field.number()
                    ));
                }
            }
        }
    }
    for name in ENVELOPES {
        if !index.messages.contains_key(name) {
            found.push(format!("there is no envelope {name}"));
        }
    }
    found
}

fn message(owner: &str, old: &DescriptorProto, new: &DescriptorProto, found: &mut Vec<String>) {
    numbering("field", owner, &old.into(), &new.into(), found);
    for was in &old.field {
        let what = format!("field {owner}.{}", was.name());
        let Some(is) = new.field.iter().find(|is| is.name == was.name) else {
            continue;
        };
        changed(&what, "type", &was.r#type(), &is.r#type(), found);
        changed(&what, "type name", &was.type_name(), &is.type_name(), found);
        changed(&what, "label", &was.label(), &is.label(), found);
        changed(
            &what,
            "presence",
            &was.proto3_optional(),
            &is.proto3_optional(),
            found,
        );
        changed(&what, "oneof", &oneof(old, was), &oneof(new, is), found);
    }
}

/// The part that fields of a message and values of an enum have in common.
fn numbering(
    kind: &str,
    owner: &str,
    old: &Numbers<'_>,
    new: &Numbers<'_>,
    found: &mut Vec<String>,
) {
    for (name, number) in &old.members {
        let what = format!("{kind} {owner}.{name}");
        let same_name = new.members.iter().find(|is| is.0 == *name);
        let same_number = new.members.iter().find(|is| is.1 == *number);
        match (same_name, same_number) {
            (Some(is), _) => changed(&what, "number", number, &is.1, found),
            (None, Some(is)) => changed(&what, "name", name, &is.0, found),
            (None, None) if new.number_is_retired(*number) && new.name_is_retired(name) => {}
            (None, None) => {
                found.push(format!(
                    "{what} is gone and its number and name are not reserved"
                ));
            }
        }
    }
    for (name, number) in &new.members {
        let what = format!("{kind} {owner}.{name}");
        if old.number_is_retired(*number) {
            found.push(format!("{what} has the number {number}, which was retired"));
        }
        if old.name_is_retired(name) {
            found.push(format!("{what} has a name that was retired"));
        }
    }
}

fn service(
    name: &str,
    old: &ServiceDescriptorProto,
    new: &ServiceDescriptorProto,
    found: &mut Vec<String>,
) {
    for was in &old.method {
        let what = format!("method {name}.{}", was.name());
        let Some(is) = new.method.iter().find(|is| is.name == was.name) else {
            found.push(format!("{what} is gone"));
            continue;
        };
        changed(&what, "input", &was.input_type(), &is.input_type(), found);
        changed(
            &what,
            "output",
            &was.output_type(),
            &is.output_type(),
            found,
        );
        changed(
            &what,
            "client streaming",
            &was.client_streaming(),
            &is.client_streaming(),
            found,
        );
        changed(
            &what,
            "server streaming",
            &was.server_streaming(),
            &is.server_streaming(),
            found,
        );
    }
}

fn changed<T: PartialEq + Debug>(what: &str, part: &str, was: &T, is: &T, found: &mut Vec<String>) {
    if was != is {
        found.push(format!("{what}: {part} was {was:?} and is {is:?}"));
    }
}

/// The oneof that a person wrote around `field`. An `optional` field is in one of its own, made
/// by the compiler, whose name and place mean nothing.
fn oneof<'a>(message: &'a DescriptorProto, field: &FieldDescriptorProto) -> Option<&'a str> {
    let index = usize::try_from(field.oneof_index?).ok()?;
    let name = message.oneof_decl.get(index)?.name();
    (!field.proto3_optional()).then_some(name)
}

/// Names and numbers in use, and those that must never be used again.
struct Numbers<'a> {
    members: Vec<(&'a str, i32)>,
    retired: Vec<RangeInclusive<i32>>,
    retired_names: &'a [String],
}

impl Numbers<'_> {
    fn number_is_retired(&self, number: i32) -> bool {
        self.retired.iter().any(|range| range.contains(&number))
    }

    fn name_is_retired(&self, name: &str) -> bool {
        self.retired_names.iter().any(|retired| retired == name)
    }
}

impl<'a> From<&'a DescriptorProto> for Numbers<'a> {
    fn from(message: &'a DescriptorProto) -> Self {
        let ranges = message.reserved_range.iter();
        Self {
            members: message
                .field
                .iter()
                .map(|it| (it.name(), it.number()))
                .collect(),
            // The end of a range is outside it here, and inside it in an enum.
            retired: ranges.map(|it| it.start()..=it.end() - 1).collect(),
            retired_names: &message.reserved_name,
        }
    }
}

impl<'a> From<&'a EnumDescriptorProto> for Numbers<'a> {
    fn from(enumeration: &'a EnumDescriptorProto) -> Self {
        let ranges = enumeration.reserved_range.iter();
        Self {
            members: enumeration
                .value
                .iter()
                .map(|it| (it.name(), it.number()))
                .collect(),
            retired: ranges.map(|it| it.start()..=it.end()).collect(),
            retired_names: &enumeration.reserved_name,
        }
    }
}

/// Our own definitions by their full names, wherever they are nested.
#[derive(Default)]
struct Index<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    services: BTreeMap<String, &'a ServiceDescriptorProto>,
}

impl<'a> Index<'a> {
    fn of(set: &'a FileDescriptorSet) -> Self {
        let mut index = Self::default();
        for file in &set.file {
            let package = file.package();
            if package.starts_with("google.") {
                continue;
            }
            index.add_messages(package, &file.message_type);
            index.add_enums(package, &file.enum_type);
            for service in &file.service {
                index
                    .services
                    .insert(format!("{package}.{}", service.name()), service);
            }
        }
        index
    }

    fn add_messages(&mut self, scope: &str, messages: &'a [DescriptorProto]) {
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add_messages(&name, &message.nested_type);
            self.add_enums(&name, &message.enum_type);
            self.messages.insert(name, message);
        }
    }

    fn add_enums(&mut self, scope: &str, enums: &'a [EnumDescriptorProto]) {
        for enumeration in enums {
            self.enums
                .insert(format!("{scope}.{}", enumeration.name()), enumeration);
        }
    }
}
