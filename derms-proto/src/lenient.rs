//! Words of newer headends: an older client reads past what it does not know.
//!
//! Words that are only told have a variant for that. Those that are also given (in a fleet file, in an
//! order) must not take a mistake for a newer word: they are read leniently only where they are told.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// A type with a value for what it does not know.
pub(crate) trait OrUnknown: Sized {
    const UNKNOWN: Self;
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Read<T> {
    Known(T),
    Unknown(IgnoredAny),
}

pub(crate) fn or_unknown<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: OrUnknown + Deserialize<'de>,
{
    Ok(match Read::deserialize(deserializer)? {
        Read::Known(known) => known,
        Read::Unknown(_) => T::UNKNOWN,
    })
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use crate::*;

    fn read<T: DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_word_that_is_told_may_be_a_newer_one() {
        assert_eq!(
            read::<DispatchStatus>(r#""paused""#),
            DispatchStatus::Unknown
        );
        assert_eq!(read::<ReasonCode>(r#""too_warm""#), ReasonCode::Unknown);
        assert_eq!(read::<LimitStatus>(r#""eased""#), LimitStatus::Unknown);
        assert_eq!(read::<CloseReason>(r#""moved""#), CloseReason::Unknown);
        assert_eq!(read::<AgentMode>(r#""twin""#), AgentMode::Unknown);
        assert_eq!(read::<Availability>(r#""partly""#), Availability::Unknown);
        assert_eq!(read::<ControlSource>(r#""market""#), ControlSource::Unknown);
        assert_eq!(read::<Quality>(r#""guessed""#), Quality::Unknown);
        assert_eq!(read::<DeviceStatus>(r#""dreaming""#), DeviceStatus::Unknown);
        assert_eq!(read::<SplitPolicy>(r#""price""#), SplitPolicy::Unknown);
        assert_eq!(read::<LeftOutReason>(r#""sold""#), LeftOutReason::Unknown);
        assert_eq!(read::<Severity>(r#""deafening""#), Severity::Unknown);
        assert_eq!(read::<EventSource>(r#""market""#), EventSource::Unknown);
        assert_eq!(read::<ProblemCode>(r#""too_loud""#), ProblemCode::Unknown);
        assert!(!DispatchStatus::Unknown.is_terminal());
    }

    #[test]
    fn what_is_also_given_is_read_past_in_an_answer_and_refused_in_a_request() {
        let failsafe = r#"{"policy": {"curve": [1, 2]}, "after_s": 5}"#;
        assert_eq!(read::<Failsafe>(failsafe).policy, FailsafePolicy::Unknown);
        for known in [FailsafePolicy::Hold, FailsafePolicy::Value(Power::ZERO)] {
            let json = serde_json::json!({"policy": known, "after_s": 5}).to_string();
            assert_eq!(read::<Failsafe>(&json).policy, known);
        }
        for word in [r#""unknown""#, r#""curve""#, r#"{"curve": 1}"#] {
            assert!(serde_json::from_str::<FailsafePolicy>(word).is_err());
            assert!(serde_json::from_str::<FollowUp>(word).is_err());
            assert!(serde_json::from_str::<AssetKind>(word).is_err());
        }
    }
}
