//! Values, as people read them.

use std::time::Duration;

use derms_client::proto::{AssetKind, Power, Timestamp};
use serde::Serialize;

/// What stands where nothing was measured or said.
pub(crate) const NOTHING: &str = "-";

/// Whether a terminal would act upon it, or show other text than there is: control characters, and
/// those that turn the direction of writing.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of the headend, with everything escaped that a terminal would act upon.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// A word of the API, such as a status.
pub(crate) fn word(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str()
        .map_or_else(|| json.to_string(), str::to_owned)
}

/// A number with at most three decimals.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// A power with its unit, to the kW; below that in kW, so that little is not shown as nothing.
pub(crate) fn power(power: Power) -> String {
    if power.mw() != 0.0 && power.mw().abs() < 0.001 {
        format!("{} kW", number(power.kw()))
    } else {
        format!("{} MW", number(power.mw()))
    }
}

/// A power with its direction in the word for this kind of asset; `None`: a site.
pub(crate) fn directed(value: Power, kind: Option<AssetKind>) -> String {
    let (out, into) = match kind {
        Some(AssetKind::Battery | AssetKind::EvCharger) => ("discharge", "charge"),
        Some(AssetKind::Pv | AssetKind::Wind | AssetKind::Genset) => ("generation", "consumption"),
        _ => ("export", "import"),
    };
    let shown = power(value);
    if value.mw() > 0.0 {
        format!("{shown} {out}")
    } else if value.mw() < 0.0 {
        format!("{shown} {into}")
    } else {
        shown
    }
}

/// A value that may be absent.
pub(crate) fn or_nothing<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), shown)
}

/// The first names of a list, and how many there are more: a gateway may serve a thousand assets.
pub(crate) fn few(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(3);
    let shown: Vec<String> = names.take(3).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A time to the second, UTC.
pub(crate) fn time(time: Timestamp) -> String {
    cut(time, 1_000_000)
}

/// A time to the millisecond, UTC.
pub(crate) fn fine_time(time: Timestamp) -> String {
    cut(time, 1_000)
}

fn cut(time: Timestamp, micros: i64) -> String {
    let whole = time.unix_micros().div_euclid(micros) * micros;
    Timestamp::from_unix_micros(whole).to_string()
}

/// Seconds of the API as a duration (`15m`, `1h 30m`).
pub(crate) fn seconds(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    // Nobody reads nanoseconds.
    let cut = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    humantime::format_duration(cut).to_string()
}

/// How long ago something was, in its largest unit: `53s`, `3m`, `4h`, `12d`.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How old a value is: to a tenth of a second while that says something.
pub(crate) fn age(age_s: f64) -> String {
    if age_s < 60.0 {
        format!("{age_s:.1}s")
    } else {
        seconds(age_s.trunc())
    }
}

#[cfg(test)]
mod tests {
    use derms_client::proto::DispatchStatus;

    use super::*;

    #[test]
    fn a_power_has_its_unit_and_little_is_not_shown_as_nothing() {
        for (mw, shown) in [
            (5.0, "5 MW"),
            (-0.5, "-0.5 MW"),
            (7.199_999_999_9, "7.2 MW"),
            (100.0, "100 MW"),
            (0.000_25, "0.25 kW"),
            (-0.0, "0 MW"),
        ] {
            assert_eq!(power(Power::from_mw(mw)), shown);
        }
    }

    #[test]
    fn the_direction_is_in_the_words_of_the_kind() {
        for (mw, kind, shown) in [
            (5.0, Some(AssetKind::Battery), "5 MW discharge"),
            (-5.0, Some(AssetKind::EvCharger), "-5 MW charge"),
            (5.0, Some(AssetKind::Pv), "5 MW generation"),
            (-5.0, Some(AssetKind::Meter), "-5 MW import"),
            (5.0, None, "5 MW export"),
            (0.0, Some(AssetKind::Battery), "0 MW"),
        ] {
            assert_eq!(directed(Power::from_mw(mw), kind), shown);
        }
    }

    #[test]
    fn a_name_with_escape_codes_moves_no_cursor() {
        let name = "a\u{1b}[2J\nb\u{9b}\u{202e}";
        assert_eq!(clean(name), r"a\u{1b}[2J\nb\u{9b}\u{202e}");
        assert_eq!(clean("Süd 1"), "Süd 1");
    }

    #[test]
    fn of_many_names_the_first_are_told_and_the_others_counted() {
        let shown = |many: u32| {
            few((0..many)
                .map(|it| format!("B-{it}"))
                .collect::<Vec<_>>()
                .into_iter())
        };
        assert_eq!(shown(0), "");
        assert_eq!(shown(3), "B-0, B-1, B-2");
        assert_eq!(shown(5), "B-0, B-1, B-2 and 2 more");
    }

    #[test]
    fn words_times_and_durations_are_short() {
        assert_eq!(word(&DispatchStatus::Active), "active");
        let at: Timestamp = "2026-01-31T12:00:00.123456Z".parse().unwrap();
        assert_eq!(time(at), "2026-01-31T12:00:00Z");
        assert_eq!(fine_time(at), "2026-01-31T12:00:00.123Z");
        assert_eq!(seconds(5400.0), "1h 30m");
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400].map(ago);
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "23h", "1d"]);
        assert_eq!(
            (age(3.12), age(75.9)),
            ("3.1s".to_owned(), "1m 15s".to_owned())
        );
    }
}
