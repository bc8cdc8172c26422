//! Points in time as a caller writes them.

use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, Zoned};
use tollgate_shared::refusal::Refusal;

use crate::branch_name::quoted;

/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 100;

/// Which end of a period a point in time is: a date alone means its first or its last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The beginning.
    Start,
    /// The end.
    End,
}

/// Reads a point in time, in seconds since 1970; `now` also says the time zone of texts without one.
///
/// Takes RFC 3339, ISO dates with or without a time, git's own form, seconds since 1970, `now`, `today`, `yesterday`
/// and `2 weeks ago`.
///
/// # Errors
///
/// `invalid_timestamp`.
pub fn parse(text: &str, boundary: Boundary, now: &Zoned) -> Result<i64, Refusal> {
    let moment = (text.len() <= TEXT_BYTES_MAX).then(|| read(text.trim(), boundary, now)).flatten();
    moment.map(Timestamp::as_second).ok_or_else(|| {
        Refusal::refused(
            "invalid_timestamp",
            format!("{} is no point in time", quoted(text)),
            "write `2026-01-31`, `2026-01-31T12:00:00Z` or `2 weeks ago`",
        )
    })
}

fn read(text: &str, boundary: Boundary, now: &Zoned) -> Option<Timestamp> {
    let zone = now.time_zone();
    match text.to_ascii_lowercase().as_str() {
        "now" => return Some(now.timestamp()),
        "today" => return of_date(now.date(), boundary, zone),
        "yesterday" => return of_date(now.date().yesterday().ok()?, boundary, zone),
        _ => {}
    }
    let digits = text.strip_prefix('@').unwrap_or(text);
    if digits.len() >= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_second(digits.parse().ok()?).ok();
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    if let Ok(moment) = strtime::parse("%Y-%m-%d %H:%M:%S %z", text).and_then(|parts| parts.to_timestamp()) {
        return Some(moment);
    }
    if text.len() <= "2026-01-31".len()
        && let Ok(date) = text.parse::<Date>()
    {
        return of_date(date, boundary, zone);
    }
    if let Ok(moment) = text.parse::<DateTime>() {
        return Some(moment.to_zoned(zone.clone()).ok()?.timestamp());
    }
    // Only the past: a log of the future is empty, and more likely a mistake.
    let span: Span = text.ends_with("ago").then(|| text.parse().ok()).flatten()?;
    Some(now.checked_add(span).ok()?.timestamp())
}

fn of_date(date: Date, boundary: Boundary, zone: &TimeZone) -> Option<Timestamp> {
    match boundary {
        Boundary::Start => Some(date.to_zoned(zone.clone()).ok()?.timestamp()),
        Boundary::End => {
            let next = date.tomorrow().ok()?.to_zoned(zone.clone()).ok()?;
            next.timestamp().checked_sub(1.second()).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Zoned {
        "2026-03-15T12:00:00[UTC]".parse().unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn points_in_time_are_read() {
        for (text, expected) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T12:30:00Z", "2026-01-31T12:30:00Z"),
            ("2026-01-31T12:30:00+02:00", "2026-01-31T10:30:00Z"),
            ("2026-01-31 12:30:00", "2026-01-31T12:30:00Z"),
            ("2026-01-31T12:30", "2026-01-31T12:30:00Z"),
            ("2026-01-31 12:30:00 +0200", "2026-01-31T10:30:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("@1700000000", "2023-11-14T22:13:20Z"),
            ("now", "2026-03-15T12:00:00Z"),
            ("today", "2026-03-15T00:00:00Z"),
            ("Yesterday", "2026-03-14T00:00:00Z"),
            ("1 week ago", "2026-03-08T12:00:00Z"),
            ("2 days ago", "2026-03-13T12:00:00Z"),
            ("3 hours ago", "2026-03-15T09:00:00Z"),
            ("1 month ago", "2026-02-15T12:00:00Z"),
        ] {
            assert_eq!(parse(text, Boundary::Start, &now()).unwrap(), at(expected), "{text}");
        }
    }

    #[test]
    fn date_alone_ends_with_its_last_second() {
        assert_eq!(parse("2026-01-31", Boundary::End, &now()).unwrap(), at("2026-01-31T23:59:59Z"));
        assert_eq!(parse("yesterday", Boundary::End, &now()).unwrap(), at("2026-03-14T23:59:59Z"));
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "1".repeat(101);
        for text in
            ["", "-1", "--since=x", "soon", "2026-13-01", "2026-02-30", "ago", "1 week", "in 2 days", "12", &long]
        {
            assert_eq!(parse(text, Boundary::Start, &now()).unwrap_err().code, "invalid_timestamp", "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,40}|[0-9]{0,25} ?(years|weeks|s)? ?(ago)?") {
            let _ = parse(&text, Boundary::End, &now());
        }
    }
}
