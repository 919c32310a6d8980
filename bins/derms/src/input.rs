//! Powers, durations and times, as people write them.

use std::time::Duration;

use derms_client::proto::{DispatchStatus, Power, Timestamp};

const POWER: &str = "write a power like 5, 5MW, -500kW or 250W";
const DURATION: &str = "write a duration with its unit, like 90s, 15m or 1h30m";
const TIME: &str = "write a time like 2026-01-31T12:00:00Z, 2026-01-31, -1h, `2h ago`, +15m or now";

/// A power: MW unless a unit follows.
pub(crate) fn power(text: &str) -> Result<Power, String> {
    let text = text.trim();
    // `mw` would be milliwatts by the book, and MW by the habit: so neither.
    let (number, of): (&str, fn(f64) -> Power) = if let Some(number) = text.strip_suffix("MW") {
        (number, Power::from_mw)
    } else if let Some(number) = text.strip_suffix("kW") {
        (number, Power::from_kw)
    } else if let Some(number) = text.strip_suffix('W') {
        (number, Power::from_w)
    } else {
        (text, Power::from_mw)
    };
    let value = number.trim().parse().ok().map(of);
    value
        .filter(|power| power.is_finite())
        .ok_or_else(|| POWER.to_owned())
}

/// A ramp: MW per minute, above 0.
pub(crate) fn ramp(text: &str) -> Result<f64, String> {
    let bare = text.trim().strip_suffix("/min").unwrap_or(text);
    let rate = power(bare).map(Power::mw).ok().filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| "write a ramp above 0 like 2, 2MW/min or 500kW/min".to_owned())
}

/// A duration above 0.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text.trim()).ok();
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| DURATION.to_owned())
}

/// A time, on this machine's clock where it is counted from now.
pub(crate) fn point(text: &str) -> Result<Timestamp, String> {
    point_at(text, Timestamp::now())
}

fn point_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    let ago = text.strip_prefix('-').or(text.strip_suffix("ago"));
    let ahead = text.strip_prefix('+').or(text.strip_prefix("in "));
    let time = match (ago, ahead) {
        _ if text == "now" => Some(now),
        (Some(ago), _) => duration(ago).ok().map(|ago| now.saturating_sub(ago)),
        (None, Some(ahead)) => duration(ahead).ok().map(|ahead| now.saturating_add(ahead)),
        (None, None) => text
            .parse()
            .or_else(|_| format!("{text}T00:00:00Z").parse())
            .ok(),
    };
    time.ok_or_else(|| TIME.to_owned())
}

/// Where an order stands, in the API's word.
pub(crate) fn status(text: &str) -> Result<DispatchStatus, String> {
    let all = DispatchStatus::ALL.map(|status| (crate::words::word(&status), status));
    let found = all.iter().find(|(word, _)| word == text);
    found.map(|(_, status)| *status).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|(word, _)| word.as_str()).collect();
        format!("write one of {}", words.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_is_in_mw_unless_its_unit_follows() {
        for (text, mw) in [
            ("5", 5.0),
            ("-5", -5.0),
            ("+2.5MW", 2.5),
            ("5 MW", 5.0),
            ("-500kW", -0.5),
            ("250W", 0.000_25),
            ("1e3kW", 1.0),
        ] {
            assert_eq!(power(text).unwrap().mw(), mw, "{text}");
        }
    }

    #[test]
    fn what_could_be_taken_for_another_power_is_refused() {
        for text in [
            "", "5mw", "5MWh", "5kw", "nan", "inf", "1e999", "5,5", "--yes", "MW",
        ] {
            assert!(power(text).unwrap_err().contains("-500kW"), "{text}");
        }
    }

    #[test]
    fn a_ramp_is_above_zero() {
        assert_eq!(ramp("500kW/min").unwrap(), 0.5);
        assert_eq!(ramp("2").unwrap(), 2.0);
        for text in ["0", "-1", "x", "2/h"] {
            assert!(ramp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_has_a_unit_and_is_above_zero() {
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        for text in ["", "15", "0s", "-1m", "fast"] {
            assert!(duration(text).unwrap_err().contains("15m"), "{text}");
        }
    }

    #[test]
    fn a_time_is_absolute_or_counted_from_now() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("now", "2026-01-31T12:00:00Z"),
            ("-1h", "2026-01-31T11:00:00Z"),
            ("2h ago", "2026-01-31T10:00:00Z"),
            ("+15m", "2026-01-31T12:15:00Z"),
            ("in 15m", "2026-01-31T12:15:00Z"),
            ("2026-01-30", "2026-01-30T00:00:00Z"),
            ("2026-01-30T02:00:00+02:00", "2026-01-30T00:00:00Z"),
        ] {
            assert_eq!(point_at(text, now).unwrap().to_string(), time, "{text}");
        }
        for text in ["", "1h", "yesterday", "-", "2026-13-01", "-1"] {
            assert!(point_at(text, now).unwrap_err().contains("-1h"), "{text}");
        }
    }

    #[test]
    fn a_status_is_written_as_the_api_has_it() {
        assert_eq!(status("active").unwrap(), DispatchStatus::Active);
        assert!(status("done").unwrap_err().contains("completed"));
    }
}
