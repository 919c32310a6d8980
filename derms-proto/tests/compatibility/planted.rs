//! Each kind of break, planted in the current descriptors, is found; what is allowed is not.

use prost_types::descriptor_proto::ReservedRange;
use prost_types::enum_descriptor_proto::EnumReservedRange;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

use crate::current;
use crate::rules::{breaks, faults};

fn ours(set: &mut FileDescriptorSet) -> &mut FileDescriptorProto {
    let file = set
        .file
        .iter_mut()
        .find(|file| file.package() == "derms.v1");
    file.expect("the link is in the set")
}

fn message<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
    let message = ours(set)
        .message_type
        .iter_mut()
        .find(|it| it.name() == name);
    message.expect("the message is there")
}

fn field<'a>(set: &'a mut FileDescriptorSet, path: &str) -> &'a mut FieldDescriptorProto {
    let (owner, name) = path.split_once('.').expect("Message.field");
    let field = message(set, owner)
        .field
        .iter_mut()
        .find(|it| it.name() == name);
    field.expect("the field is there")
}

fn enumeration<'a>(set: &'a mut FileDescriptorSet, name: &str) -> &'a mut EnumDescriptorProto {
    let enumeration = ours(set).enum_type.iter_mut().find(|it| it.name() == name);
    enumeration.expect("the enum is there")
}

fn method(set: &mut FileDescriptorSet) -> &mut MethodDescriptorProto {
    &mut ours(set).service[0].method[0]
}

fn add_field(set: &mut FileDescriptorSet, owner: &str, name: &str, number: i32) {
    message(set, owner).field.push(FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Uint64.into()),
        ..Default::default()
    });
}

fn add_value(set: &mut FileDescriptorSet, owner: &str, name: &str, number: i32) {
    enumeration(set, owner)
        .value
        .push(EnumValueDescriptorProto {
            name: Some(name.into()),
            number: Some(number),
            options: None,
        });
}

/// What the comparison says after `edit`.
fn after(edit: impl FnOnce(&mut FileDescriptorSet)) -> Vec<String> {
    let mut edited = current();
    edit(&mut edited);
    breaks(&current(), &edited)
}

#[track_caller]
fn is_found(wanted: &str, edit: impl FnOnce(&mut FileDescriptorSet)) {
    let found = after(edit);
    assert!(
        found.iter().any(|line| line.contains(wanted)),
        "{wanted:?} is not in {found:#?}"
    );
}

#[test]
fn nothing_is_found_where_nothing_changed() {
    assert_eq!(after(|_| ()), Vec::<String>::new());
}

#[test]
fn additions_are_allowed() {
    let found = after(|set| {
        add_field(set, "Setpoint", "added", 42);
        add_value(set, "Quality", "QUALITY_ADDED", 42);
        let mut added = message(set, "Ping").clone();
        added.name = Some("Added".into());
        ours(set).message_type.push(added);
        // Another `optional` before an old one moves the oneofs that the compiler makes.
        for field in &mut message(set, "Sample").field {
            field.oneof_index = field.oneof_index.map(|index| index + 1);
        }
        let decl = message(set, "Sample").oneof_decl[0].clone();
        message(set, "Sample").oneof_decl.insert(0, decl);
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_is_removed_or_renamed_is_found() {
    is_found("message derms.v1.Ping is gone", |set| {
        ours(set).message_type.retain(|it| it.name() != "Ping");
    });
    is_found("message derms.v1.Ping is gone", |set| {
        message(set, "Ping").name = Some("Probe".into());
    });
    is_found("message derms.v1.Sample.DetailsEntry is gone", |set| {
        message(set, "Sample").nested_type.clear();
    });
    is_found("enum derms.v1.Quality is gone", |set| {
        enumeration(set, "Quality").name = Some("Grade".into());
    });
    is_found("service derms.v1.AgentLink is gone", |set| {
        ours(set).service.clear();
    });
    is_found("method derms.v1.AgentLink.Stream is gone", |set| {
        method(set).name = Some("Session".into());
    });
    is_found(
        "derms.v1.Setpoint.mw: name was \"mw\" and is \"power\"",
        |set| {
            field(set, "Setpoint.mw").name = Some("power".into());
        },
    );
    is_found("derms.v1.Quality.QUALITY_BAD: name was", |set| {
        enumeration(set, "Quality").value[4].name = Some("QUALITY_POOR".into());
    });
}

#[test]
fn a_package_is_not_renamed() {
    let found = after(|set| ours(set).package = Some("derms.v2".into()));
    assert!(found.len() > 30, "{found:#?}");
}

#[test]
fn every_changed_property_of_a_field_is_found() {
    is_found("Setpoint.mw: number was 5 and is 55", |set| {
        field(set, "Setpoint.mw").number = Some(55);
    });
    is_found("Setpoint.mw: type was Double and is Float", |set| {
        field(set, "Setpoint.mw").r#type = Some(Type::Float.into());
    });
    is_found(
        "Setpoint.then: type name was \".derms.v1.FollowUp\"",
        |set| {
            field(set, "Setpoint.then").type_name = Some(".derms.v1.Control".into());
        },
    );
    is_found("Telemetry.samples: label was Repeated", |set| {
        field(set, "Telemetry.samples").label = Some(Label::Optional.into());
    });
    is_found("Sample.mw: presence was true and is false", |set| {
        let mw = field(set, "Sample.mw");
        mw.proto3_optional = Some(false);
        mw.oneof_index = None;
    });
    is_found("Setpoint.mw: presence was false and is true", |set| {
        field(set, "Setpoint.mw").proto3_optional = Some(true);
    });
    is_found(
        "AgentMessage.pong: oneof was Some(\"body\") and is None",
        |set| {
            field(set, "AgentMessage.pong").oneof_index = None;
        },
    );
    is_found(
        "FollowUp.mw: oneof was Some(\"then\") and is Some(\"next\")",
        |set| {
            message(set, "FollowUp").oneof_decl[0].name = Some("next".into());
        },
    );
}

#[test]
fn a_changed_number_of_an_enum_value_is_found() {
    is_found(
        "derms.v1.Quality.QUALITY_BAD: number was 4 and is 9",
        |set| {
            enumeration(set, "Quality").value[4].number = Some(9);
        },
    );
}

#[test]
fn every_changed_property_of_a_method_is_found() {
    is_found("Stream: input was", |set| {
        method(set).input_type = Some(".derms.v1.Register".into());
    });
    is_found("Stream: output was", |set| {
        method(set).output_type = Some(".derms.v1.Close".into());
    });
    is_found("Stream: client streaming was true and is false", |set| {
        method(set).client_streaming = Some(false);
    });
    is_found("Stream: server streaming was true and is false", |set| {
        method(set).server_streaming = None;
    });
}

#[test]
fn a_field_is_removed_only_with_its_number_and_its_name_reserved() {
    let remove = |set: &mut FileDescriptorSet| {
        message(set, "Setpoint")
            .field
            .retain(|it| it.name() != "ramp_mw_per_min");
    };
    let number = |set: &mut FileDescriptorSet| {
        message(set, "Setpoint").reserved_range.push(ReservedRange {
            start: Some(8),
            end: Some(9),
        });
    };
    let name = |set: &mut FileDescriptorSet| {
        message(set, "Setpoint")
            .reserved_name
            .push("ramp_mw_per_min".into());
    };
    let wanted = "Setpoint.ramp_mw_per_min is gone and its number and name are not reserved";
    is_found(wanted, remove);
    is_found(wanted, |set| (remove(set), number(set)).1);
    is_found(wanted, |set| (remove(set), name(set)).1);
    let found = after(|set| {
        remove(set);
        number(set);
        name(set);
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_value_is_removed_only_with_its_number_and_its_name_reserved() {
    let remove = |set: &mut FileDescriptorSet| {
        enumeration(set, "Quality")
            .value
            .retain(|it| it.number() != 4);
    };
    is_found(
        "Quality.QUALITY_BAD is gone and its number and name are not reserved",
        remove,
    );
    let found = after(|set| {
        remove(set);
        let quality = enumeration(set, "Quality");
        quality.reserved_name.push("QUALITY_BAD".into());
        quality.reserved_range.push(EnumReservedRange {
            start: Some(4),
            end: Some(4),
        });
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_was_retired_is_not_used_again() {
    let mut old = current();
    message(&mut old, "Setpoint")
        .reserved_name
        .push("retired".into());
    message(&mut old, "Setpoint")
        .reserved_range
        .push(ReservedRange {
            start: Some(20),
            end: Some(30),
        });
    enumeration(&mut old, "Quality")
        .reserved_range
        .push(EnumReservedRange {
            start: Some(20),
            end: Some(30),
        });
    let found = |edit: &dyn Fn(&mut FileDescriptorSet)| {
        let mut new = old.clone();
        edit(&mut new);
        breaks(&old, &new)
    };
    let number = found(&|set| add_field(set, "Setpoint", "other", 29));
    assert!(
        number[0].contains("the number 29, which was retired"),
        "{number:?}"
    );
    let name = found(&|set| add_field(set, "Setpoint", "retired", 30));
    assert!(name[0].contains("a name that was retired"), "{name:?}");
    let value = found(&|set| add_value(set, "Quality", "QUALITY_NEW", 30));
    assert!(
        value[0].contains("the number 30, which was retired"),
        "{value:?}"
    );
}

#[test]
fn numbers_of_vendors_and_the_border_in_an_envelope_are_kept_free() {
    let after = |edit: &dyn Fn(&mut FileDescriptorSet)| {
        let mut edited = current();
        edit(&mut edited);
        faults(&edited)
    };
    let vendor = after(&|set| add_field(set, "Setpoint", "ours", 100));
    assert!(
        vendor[0].contains("Setpoint.ours has number 100"),
        "{vendor:?}"
    );
    let plain_at_10 = after(&|set| add_field(set, "AgentMessage", "flag", 50));
    assert!(
        plain_at_10[0].contains("AgentMessage.flag"),
        "{plain_at_10:?}"
    );
    let body_below_10 = after(&|set| field(set, "HeadendMessage.ping").number = Some(9));
    assert!(
        body_below_10[0].contains("HeadendMessage.ping"),
        "{body_below_10:?}"
    );
    let no_envelope = after(&|set| message(set, "AgentMessage").name = Some("Envelope".into()));
    assert!(
        no_envelope[0].contains("no envelope derms.v1.AgentMessage"),
        "{no_envelope:?}"
    );
}
