//! Values of PostgreSQL's own types as it sends them in binary, written as its own text is.
//!
//! To have the server write the text of a number or a time takes it three times as long as to send the value.

use sqlx::postgres::types::Oid;

use super::values::Made;
use crate::connection::digits::{self, Digits};
use crate::rows::Encoding;

/// How a column comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Boolean,
    /// An integer of as many bytes as come, with a sign.
    Integer,
    Oid,
    Float4,
    Float8,
    Date,
    Timestamp,
    /// With its zone, which is UTC in our sessions.
    Timestamptz,
    Numeric,
    /// As the text that the server writes.
    Text,
}

impl Wire {
    /// Returns how a column of this type comes.
    pub(super) fn of(oid: Option<Oid>) -> Self {
        match oid.map(|oid| oid.0) {
            Some(16) => Self::Boolean,
            Some(20 | 21 | 23) => Self::Integer,
            Some(26) => Self::Oid,
            Some(700) => Self::Float4,
            Some(701) => Self::Float8,
            Some(1082) => Self::Date,
            Some(1114) => Self::Timestamp,
            Some(1184) => Self::Timestamptz,
            Some(1700) => Self::Numeric,
            _ => Self::Text,
        }
    }

    /// Reads a value that is no text, and writes it into `text` where JSON has no form of its own for it; `None` when it is not of
    /// the form that the server has for its type.
    pub(super) fn made<'a>(self, bytes: &[u8], text: &'a mut Vec<u8>) -> Option<Made<'a>> {
        text.clear();
        Some(match self {
            Self::Boolean => Made::Boolean(*bytes.first()? != 0),
            Self::Integer => Made::Integer(match bytes.len() {
                2 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
                4 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
                _ => i64::from_be_bytes(bytes.try_into().ok()?),
            }),
            Self::Oid => Made::Integer(i64::from(u32::from_be_bytes(bytes.try_into().ok()?))),
            // Through its shortest text, so that 0.1 stays 0.1.
            Self::Float4 => Made::Real(f32::from_be_bytes(bytes.try_into().ok()?).to_string().parse().ok()?),
            Self::Float8 => Made::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
            Self::Date => {
                match i32::from_be_bytes(bytes.try_into().ok()?) {
                    i32::MAX => text.extend_from_slice(b"infinity"),
                    i32::MIN => text.extend_from_slice(b"-infinity"),
                    days => instant(text, i64::from(days), None, ""),
                }
                Made::Text(text)
            }
            Self::Timestamp | Self::Timestamptz => {
                match i64::from_be_bytes(bytes.try_into().ok()?) {
                    i64::MAX => text.extend_from_slice(b"infinity"),
                    i64::MIN => text.extend_from_slice(b"-infinity"),
                    microseconds => {
                        let zone = if self == Self::Timestamptz { "+00" } else { "" };
                        instant(text, microseconds.div_euclid(DAY_US), Some(microseconds.rem_euclid(DAY_US)), zone);
                    }
                }
                Made::Text(text)
            }
            Self::Numeric => {
                numeric(text, bytes)?;
                Made::Encoded(text, Encoding::Decimal)
            }
            Self::Text => return None,
        })
    }
}

const DAY_US: i64 = 86_400_000_000;

/// Days from the first of March of the year 0 to the first of January of 2000, from which PostgreSQL counts.
const DAYS_BEFORE: i64 = 730_425;

/// Writes a day, counted from 2000, and the microseconds in it: `2024-01-02 03:04:05.6+00 BC`.
fn instant(text: &mut Vec<u8>, days: i64, microseconds: Option<i64>, zone: &str) {
    // Years that begin with March have their leap day at the end; 400 of them have always as many days.
    let days = days + DAYS_BEFORE;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    // There is no year 0.
    let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    let small = |value: i64| u32::try_from(value).unwrap_or_default();
    let number = |text: &mut Vec<u8>, sign, value, width| {
        let mut digits = Digits::new();
        if let Some(sign) = sign {
            digits.sign(sign);
        }
        digits.number(small(value), width);
        digits.append_to(text);
    };
    match digits::date(small(shown), small(month), small(day)) {
        Some(date) => text.extend_from_slice(&date),
        // A year of five digits or more.
        None => {
            number(text, None, shown, 4);
            number(text, Some(b'-'), month, 2);
            number(text, Some(b'-'), day, 2);
        }
    }
    if let Some(microseconds) = microseconds {
        let (seconds, fraction) = (microseconds / 1_000_000, microseconds % 1_000_000);
        text.push(b' ');
        // Always: a day has no more hours.
        let time = digits::time(small(seconds / 3_600), small(seconds / 60 % 60), small(seconds % 60));
        text.extend_from_slice(&time.unwrap_or_default());
        if fraction > 0 {
            number(text, Some(b'.'), fraction, 6);
            let zeros = text.iter().rev().take_while(|digit| **digit == b'0').count();
            text.truncate(text.len() - zeros);
        }
    }
    text.extend_from_slice(zone.as_bytes());
    text.extend_from_slice(era.as_bytes());
}

/// Writes a number that comes as groups of four digits.
fn numeric(text: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let (head, groups) = bytes.split_first_chunk::<8>()?;
    let weight = i64::from(i16::from_be_bytes([head[2], head[3]]));
    let sign = u16::from_be_bytes([head[4], head[5]]);
    let scale = usize::from(u16::from_be_bytes([head[6], head[7]]));
    match sign {
        0 => {}
        0x4000 => text.push(b'-'),
        0xc000 => {
            text.extend_from_slice(b"NaN");
            return Some(());
        }
        0xd000 => {
            text.extend_from_slice(b"Infinity");
            return Some(());
        }
        0xf000 => {
            text.extend_from_slice(b"-Infinity");
            return Some(());
        }
        _ => return None,
    }
    // Groups beyond those that come are zero, on either side.
    let group = |at: i64| -> u32 {
        let at = usize::try_from(at).ok().and_then(|at| groups.get(2 * at..2 * at + 2));
        at.map_or(0, |pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
    };
    let digits = |text: &mut Vec<u8>, value: u32, width| {
        let mut digits = Digits::new();
        digits.number(value, width);
        digits.append_to(text);
    };
    digits(text, if weight < 0 { 0 } else { group(0) }, 1);
    for at in 1..=weight {
        digits(text, group(at), 4);
    }
    if scale > 0 {
        text.push(b'.');
        let end = text.len() + scale;
        let mut at = weight + 1;
        // What lies between the full stop and the first group.
        if at < 0 {
            let zeros = usize::try_from(-at).ok()?.saturating_mul(4).min(scale);
            text.extend(std::iter::repeat_n(b'0', zeros));
            at = 0;
        }
        while text.len() < end {
            digits(text, group(at), 4);
            at += 1;
        }
        text.truncate(end);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(wire: Wire, bytes: &[u8]) -> String {
        // What was written before is not part of it.
        let mut written = b"before".to_vec();
        match wire.made(bytes, &mut written) {
            Some(Made::Text(text) | Made::Encoded(text, Encoding::Decimal)) => {
                String::from_utf8_lossy(text).into_owned()
            }
            _ => String::new(),
        }
    }

    #[test]
    fn times_are_written_as_the_server_does() {
        let date = |days: i32| text(Wire::Date, &days.to_be_bytes());
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(-1), "1999-12-31");
        assert_eq!(date(59), "2000-02-29");
        assert_eq!(date(8_825), "2024-02-29");
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(2_921_940), "10000-01-01");
        assert_eq!((date(i32::MAX), date(i32::MIN)), ("infinity".to_owned(), "-infinity".to_owned()));
        let time = |microseconds: i64| text(Wire::Timestamp, &microseconds.to_be_bytes());
        assert_eq!(time(0), "2000-01-01 00:00:00");
        assert_eq!(time(-1), "1999-12-31 23:59:59.999999");
        assert_eq!(time(3_723_600_000), "2000-01-01 01:02:03.6");
        assert_eq!(text(Wire::Timestamptz, &500_i64.to_be_bytes()), "2000-01-01 00:00:00.0005+00");
        assert_eq!((time(i64::MAX), time(i64::MIN)), ("infinity".to_owned(), "-infinity".to_owned()));
    }

    #[test]
    fn numbers_are_written_as_the_server_does() {
        let number = |weight: i16, sign: u16, scale: u16, groups: &[u16]| {
            let count = u16::try_from(groups.len()).unwrap();
            let head = [count, weight.cast_unsigned(), sign, scale];
            let bytes: Vec<u8> = head.iter().chain(groups).flat_map(|part| part.to_be_bytes()).collect();
            text(Wire::Numeric, &bytes)
        };
        assert_eq!(number(0, 0, 0, &[]), "0");
        assert_eq!(number(0, 0, 2, &[]), "0.00");
        assert_eq!(number(0, 0x4000, 2, &[12, 5000]), "-12.50");
        assert_eq!(number(1, 0, 0, &[12, 5]), "120005");
        assert_eq!(number(2, 0, 1, &[1]), "100000000.0");
        assert_eq!(number(-1, 0, 4, &[7]), "0.0007");
        assert_eq!(number(-3, 0, 12, &[70]), "0.000000000070");
        assert_eq!(number(-3, 0, 5, &[70]), "0.00000");
        assert_eq!(number(0, 0xc000, 0, &[]), "NaN");
        assert_eq!((number(0, 0xd000, 0, &[]), number(0, 0xf000, 0, &[])), ("Infinity".into(), "-Infinity".into()));
        assert!(Wire::Numeric.made(&[0; 3], &mut Vec::new()).is_none());
    }
}
