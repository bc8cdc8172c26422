//! Times in which nothing is deployed, in the local time of a zone.
//!
//! Clocks are set forward and back; a window is never shorter for that. One that would begin in an hour that is skipped
//! begins when the clock has been set; an hour that comes twice belongs to it twice.

use std::fmt;

use anyhow::{Context, bail, ensure};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::config::FreezeConfig;

/// Longest window that comes again: a month.
const MINUTES_MAX: u32 = 44_640;

/// Most minutes that a clock is set forward by; no zone has done more than a day.
const GAP_MINUTES_MAX: usize = 1500;

/// One time in which nothing is deployed.
#[derive(Clone, Debug)]
pub struct Window {
    zone: TimeZone,
    zone_name: String,
    when: When,
}

#[derive(Clone, Debug)]
enum When {
    Between { from: Timestamp, to: Timestamp },
    Again { cron: Cron, text: String, minutes: u32 },
}

/// The minutes at which something begins, as in crontab.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether both kinds of day are restricted; then either is enough.
    either_day: bool,
}

impl Window {
    /// Takes a window as configured.
    ///
    /// # Errors
    ///
    /// What cannot be relied on.
    pub fn new(written: &FreezeConfig) -> anyhow::Result<Self> {
        let zone_name = written.zone.clone().unwrap_or_else(|| "UTC".to_owned());
        let zone = TimeZone::get(&zone_name).with_context(|| format!("`zone` {zone_name:?} is not known here"))?;
        let when = match (&written.from, &written.to, &written.cron) {
            (Some(from), Some(to), None) => {
                ensure!(written.minutes.is_none(), "`minutes` belongs to `cron`");
                let from = moment(from, &zone, false).context("`from`")?;
                let to = moment(to, &zone, true).context("`to`")?;
                ensure!(from < to, "`to` is not after `from`");
                When::Between { from, to }
            }
            (None, None, Some(text)) => {
                let minutes = written.minutes.unwrap_or(1);
                ensure!((1..=MINUTES_MAX).contains(&minutes), "`minutes` must be 1 to {MINUTES_MAX}");
                When::Again { cron: Cron::parse(text).context("`cron`")?, text: text.clone(), minutes }
            }
            _ => bail!("give either `from` and `to`, or `cron`"),
        };
        Ok(Self { zone, zone_name, when })
    }

    /// Whether `now` belongs to it.
    #[must_use]
    pub fn contains(&self, now: Timestamp) -> bool {
        match &self.when {
            When::Between { from, to } => (*from..*to).contains(&now),
            When::Again { cron, minutes, .. } => {
                let local = |at: Timestamp| self.zone.to_datetime(at);
                // Minute by minute back from now, whatever the clock did; each with the minutes that were skipped before it.
                let start = now.as_second().div_euclid(60) * 60;
                (0..i64::from(*minutes)).any(|back| {
                    let Ok(at) = Timestamp::from_second(start - back * 60) else { return false };
                    let here = local(at);
                    if cron.matches(here) {
                        return true;
                    }
                    let Ok(before) = at.checked_sub(SignedDuration::from_mins(1)) else { return false };
                    let mut skipped = local(before);
                    for _ in 0..GAP_MINUTES_MAX {
                        let Ok(next) = skipped.checked_add(1.minute()) else { return false };
                        if next >= here {
                            return false;
                        }
                        if cron.matches(next) {
                            return true;
                        }
                        skipped = next;
                    }
                    false
                })
            }
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Between { from, to } => write!(formatter, "frozen from {from} to {to}"),
            When::Again { text, minutes, .. } => {
                write!(formatter, "frozen for {minutes} minutes from `{text}` in {}", self.zone_name)
            }
        }
    }
}

/// Reads a local date or date and time; in doubt the one that makes the window longer.
fn moment(text: &str, zone: &TimeZone, is_end: bool) -> anyhow::Result<Timestamp> {
    let civil = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => {
            let date = if is_end { date.tomorrow()? } else { date };
            date.at(0, 0, 0, 0)
        }
        _ => text.parse::<DateTime>().context("not a date, nor a date and time")?,
    };
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    Ok(if is_end { ambiguous.later()? } else { ambiguous.earlier()? })
}

impl Cron {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            bail!("{text:?} does not have five fields");
        };
        let mut weekdays_set = field(weekdays, 0, 7)?;
        // Sunday is 0 and 7.
        weekdays_set |= weekdays_set >> 7 & 1;
        Ok(Self {
            minutes: field(minutes, 0, 59)?,
            hours: field(hours, 0, 23)?,
            days: field(days, 1, 31)?,
            months: field(months, 1, 12)?,
            weekdays: weekdays_set,
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }

    fn matches(&self, at: DateTime) -> bool {
        let has = |set: u64, value: i8| set >> value & 1 == 1;
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        has(self.minutes, at.minute())
            && has(self.hours, at.hour())
            && has(self.months, at.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }
}

/// Reads `*`, `5`, `1-5`, `*/15`, `0-30/10` and lists of these into a set of bits.
fn field(text: &str, min: u32, max: u32) -> anyhow::Result<u64> {
    let number = |text: &str| -> anyhow::Result<u32> {
        ensure!(!text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
        let number = text.parse()?;
        ensure!((min..=max).contains(&number), "{number} is not {min} to {max}");
        Ok(number)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u8>().ok().filter(|step| *step > 0).context("a step of 0")?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (number(from)?, number(to)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        ensure!(from <= to, "{from}-{to} goes backwards");
        for value in (from..=to).step_by(usize::from(step)) {
            set |= 1_u64 << value;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn again(cron: &str, minutes: u32, zone: &str) -> Window {
        let written = FreezeConfig {
            cron: Some(cron.into()),
            minutes: Some(minutes),
            zone: Some(zone.into()),
            ..FreezeConfig::default()
        };
        Window::new(&written).unwrap()
    }

    fn between(from: &str, to: &str, zone: &str) -> Window {
        let written = FreezeConfig {
            from: Some(from.into()),
            to: Some(to.into()),
            zone: Some(zone.into()),
            ..FreezeConfig::default()
        };
        Window::new(&written).unwrap()
    }

    #[track_caller]
    fn check(window: &Window, cases: &[(&str, bool)]) {
        for (at, expected) in cases {
            assert_eq!(window.contains(at.parse().unwrap()), *expected, "{at}");
        }
    }

    #[test]
    fn weekend_from_friday_afternoon() {
        check(
            &again("0 16 * * 5", 64 * 60, "Europe/Berlin"),
            &[
                ("2026-11-20T14:59:59Z", false),
                ("2026-11-20T15:00:00Z", true),
                ("2026-11-22T12:00:00Z", true),
                ("2026-11-23T06:59:59Z", true),
                ("2026-11-23T07:00:00Z", false),
            ],
        );
    }

    #[test]
    fn window_that_begins_in_a_skipped_hour_begins_after_it() {
        // Berlin, 29 March 2026: 02:00 to 03:00 does not exist.
        check(
            &again("30 2 * * *", 60, "Europe/Berlin"),
            &[
                ("2026-03-29T00:59:59Z", false),
                ("2026-03-29T01:00:00Z", true),
                ("2026-03-29T01:59:59Z", true),
                ("2026-03-29T02:00:00Z", false),
            ],
        );
        check(
            &between("2026-03-29T02:30", "2026-03-30T12:00", "Europe/Berlin"),
            &[("2026-03-29T00:29:59Z", false), ("2026-03-29T01:30:00Z", true), ("2026-03-30T10:00:00Z", false)],
        );
    }

    #[test]
    fn hour_that_comes_twice_belongs_to_the_window_twice() {
        // Berlin, 25 October 2026: 02:00 to 03:00 comes twice.
        check(
            &again("30 2 * * *", 30, "Europe/Berlin"),
            &[
                ("2026-10-25T00:29:59Z", false),
                ("2026-10-25T00:30:00Z", true),
                ("2026-10-25T01:00:00Z", false),
                ("2026-10-25T01:30:00Z", true),
                ("2026-10-25T02:00:00Z", false),
            ],
        );
        check(
            &between("2026-10-25T02:30", "2026-10-25T02:45", "Europe/Berlin"),
            &[
                ("2026-10-25T00:29:59Z", false),
                ("2026-10-25T00:30:00Z", true),
                ("2026-10-25T01:44:59Z", true),
                ("2026-10-25T01:45:00Z", false),
            ],
        );
    }

    #[test]
    fn dates_are_whole_days_of_the_zone() {
        check(
            &between("2026-12-24", "2026-12-26", "Pacific/Auckland"),
            &[
                ("2026-12-23T10:59:59Z", false),
                ("2026-12-23T11:00:00Z", true),
                ("2026-12-26T10:59:59Z", true),
                ("2026-12-26T11:00:00Z", false),
            ],
        );
    }

    #[test]
    fn crontab_s_days_are_either_or() {
        let cron = Cron::parse("0 0 13 * 5").unwrap();
        for (date, expected) in
            [("2026-11-13", true), ("2026-10-13", true), ("2026-11-20", true), ("2026-11-19", false)]
        {
            assert_eq!(cron.matches(date.parse::<Date>().unwrap().at(0, 0, 0, 0)), expected, "{date}");
        }
        let sunday = "2026-11-22".parse::<Date>().unwrap().at(0, 0, 0, 0);
        assert!(
            ["0 0 * * 0", "0 0 * * 7", "0 0 * * 5-7"].iter().all(|text| Cron::parse(text).unwrap().matches(sunday))
        );
    }

    #[test]
    fn fields_and_their_imitations() {
        assert_eq!(field("*/15", 0, 59).unwrap(), 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(field("1-3,5", 0, 7).unwrap(), 0b10_1110);
        assert_eq!(field("20/20", 0, 59).unwrap(), 1 << 20 | 1 << 40);
        for text in ["", ",", "60", "-1", "1-", "5-1", "*/0", "*/x", "a", "1 2", "+1", "1--2", "**", "999999999999"] {
            assert!(field(text, 0, 59).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_taken_is_in_range(text in "[0-9*/,-]{0,12}") {
            if let Ok(set) = field(&text, 1, 31) {
                prop_assert!(set != 0 && set & 1 == 0 && set >> 32 == 0);
            }
        }

        #[test]
        fn always_is_always(second in 0_i64..4_000_000_000) {
            prop_assert!(again("* * * * *", 1, "Europe/Berlin").contains(Timestamp::from_second(second).unwrap()));
        }
    }
}
