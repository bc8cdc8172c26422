//! Values as MySQL sends them for prepared statements, into JSON without loss.

use sqlx::mysql::{MySql, MySqlRow, MySqlTypeInfo};
use sqlx::{Column as _, Decode, Row, Type, TypeInfo, ValueRef};

use crate::connection::digits::{self, Digits};
use crate::rows::{Cell, Encoding};

/// How the values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer { unsigned: bool },
    Float,
    Double,
    Decimal,
    Json,
    Date,
    DateTime,
    Time,
    Bytes,
    Text,
}

/// A value on its way into an answer.
pub(super) enum Made<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Bytes(&'a [u8]),
    Text(&'a [u8]),
    Encoded(&'a [u8], Encoding),
    Written(String, Option<Encoding>),
}

impl Made<'_> {
    /// Returns the value as people read it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Integer(integer) => integer.to_string(),
            Self::Real(real) => real.to_string(),
            Self::Bytes(bytes) | Self::Text(bytes) | Self::Encoded(bytes, _) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            Self::Written(text, _) => text.clone(),
        }
    }

    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(integer) => Cell::Integer(*integer),
            Self::Real(real) => Cell::Real(*real),
            Self::Bytes(bytes) => Cell::Blob(bytes),
            Self::Text(text) => Cell::Text(text),
            Self::Encoded(text, encoding) => Cell::Encoded(text, *encoding),
            Self::Written(text, Some(encoding)) => Cell::Encoded(text.as_bytes(), *encoding),
            Self::Written(text, None) => Cell::Text(text.as_bytes()),
        }
    }
}

impl Kind {
    /// Returns the kinds of the columns of `row`: those of the answer itself, which the server sends with it.
    pub(super) fn of_row(row: &MySqlRow) -> Vec<Self> {
        row.columns().iter().map(|column| Self::of(column.type_info())).collect()
    }

    fn of(info: &MySqlTypeInfo) -> Self {
        let known = info.name();
        // Not every name says so: an unsigned TINYINT(1) is called BOOLEAN.
        let unsigned = known.ends_with("UNSIGNED") || <u64 as Type<MySql>>::compatible(info);
        match known.trim_end_matches(" UNSIGNED") {
            "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => Self::Integer { unsigned },
            "YEAR" => Self::Integer { unsigned: true },
            "FLOAT" => Self::Float,
            "DOUBLE" => Self::Double,
            "DECIMAL" => Self::Decimal,
            "JSON" => Self::Json,
            "DATE" => Self::Date,
            "DATETIME" | "TIMESTAMP" => Self::DateTime,
            "TIME" => Self::Time,
            // Text that is compared by its bytes has the flag of bytes, but a collation of its own.
            "BINARY" | "VARBINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB"
                if <str as Type<MySql>>::compatible(info) =>
            {
                Self::Text
            }
            "BINARY" | "VARBINARY" | "BLOB" | "TINYBLOB" | "MEDIUMBLOB" | "LONGBLOB" | "BIT" | "GEOMETRY" => {
                Self::Bytes
            }
            _ => Self::Text,
        }
    }
}

/// Returns the value of one column; one that has to be put together is written into `text`.
pub(super) fn made<'a>(
    row: &'a MySqlRow,
    index: usize,
    kind: Kind,
    text: &'a mut Vec<u8>,
) -> Result<Made<'a>, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    // A date of zeros is NULL to the driver, and a value here; only what has no bytes at all is NULL. To find out what has none takes
    // the driver an allocation.
    if !matches!(kind, Kind::Date | Kind::DateTime) && value.is_null() {
        return Ok(Made::Null);
    }
    let Ok(bytes) = <&[u8] as Decode<MySql>>::decode(value) else { return Ok(Made::Null) };
    Ok(read(kind, bytes, text))
}

fn read<'a>(kind: Kind, bytes: &'a [u8], text: &'a mut Vec<u8>) -> Made<'a> {
    match kind {
        Kind::Integer { unsigned } => integer(bytes, unsigned),
        Kind::Float => match bytes.try_into().map(f32::from_le_bytes) {
            // Through its shortest text, so that 0.1 stays 0.1.
            Ok(real) => real.to_string().parse().map_or(Made::Bytes(bytes), Made::Real),
            Err(_) => Made::Bytes(bytes),
        },
        Kind::Double => bytes.try_into().map(f64::from_le_bytes).map_or(Made::Bytes(bytes), Made::Real),
        Kind::Decimal => Made::Encoded(bytes, Encoding::Decimal),
        Kind::Json => Made::Encoded(bytes, Encoding::Json),
        Kind::Date | Kind::DateTime => {
            text.clear();
            match date(text, bytes, kind == Kind::DateTime) {
                Some(()) => Made::Text(text),
                None => Made::Bytes(bytes),
            }
        }
        Kind::Time => time(bytes).map_or(Made::Bytes(bytes), |text| Made::Written(text, None)),
        Kind::Bytes => Made::Bytes(bytes),
        Kind::Text => Made::Text(bytes),
    }
}

fn integer(bytes: &[u8], unsigned: bool) -> Made<'_> {
    let mut wide = [0; 8];
    let Some(low) = wide.get_mut(..bytes.len()) else { return Made::Bytes(bytes) };
    low.copy_from_slice(bytes);
    let negative = !unsigned && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    if negative {
        wide.iter_mut().skip(bytes.len()).for_each(|byte| *byte = 0xff);
        return Made::Integer(i64::from_le_bytes(wide));
    }
    let value = u64::from_le_bytes(wide);
    match i64::try_from(value) {
        Ok(value) if !unsigned || bytes.len() < 8 || value >= 0 => Made::Integer(value),
        _ => Made::Written(value.to_string(), Some(Encoding::Integer)),
    }
}

/// A length and that many bytes: year, month, day, hour, minute, second, microseconds, as far as they are not zero.
fn date(text: &mut Vec<u8>, bytes: &[u8], with_time: bool) -> Option<()> {
    let (length, parts) = bytes.split_first()?;
    let parts = parts.get(..usize::from(*length))?;
    let part = |at: usize| parts.get(at).copied().unwrap_or(0);
    let two = |at: usize| u32::from(part(at));
    let year = u32::from(u16::from_le_bytes([part(0), part(1)]));
    // No server has other ones; whoever answers in its place may send them.
    text.extend_from_slice(&digits::date(year, two(2), two(3))?);
    if with_time {
        text.push(b' ');
        text.extend_from_slice(&digits::time(two(4), two(5), two(6))?);
        if parts.len() > 7 {
            let mut digits = Digits::new();
            digits.sign(b'.');
            digits.number(u32::from_le_bytes([part(7), part(8), part(9), part(10)]), 6);
            digits.append_to(text);
        }
    }
    Some(())
}

/// A length and that many bytes: sign, days, hours, minutes, seconds, microseconds.
fn time(bytes: &[u8]) -> Option<String> {
    let (length, parts) = bytes.split_first()?;
    let parts = parts.get(..usize::from(*length))?;
    let part = |at: usize| parts.get(at).copied().unwrap_or(0);
    let sign = if part(0) == 1 { "-" } else { "" };
    let hours = u64::from(u32::from_le_bytes([part(1), part(2), part(3), part(4)])) * 24 + u64::from(part(5));
    let microseconds = u32::from_le_bytes([part(8), part(9), part(10), part(11)]);
    let fraction = if parts.len() > 8 { format!(".{microseconds:06}") } else { String::new() };
    Some(format!("{sign}{hours:02}:{:02}:{:02}{fraction}", part(6), part(7)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_server_does() {
        let date = |bytes: &[u8], with_time| {
            let mut text = Vec::new();
            date(&mut text, bytes, with_time).map(|()| String::from_utf8_lossy(&text).into_owned())
        };
        assert_eq!(date(&[0], false).as_deref(), Some("0000-00-00"));
        assert_eq!(date(&[4, 0xe8, 7, 2, 29], true).as_deref(), Some("2024-02-29 00:00:00"));
        // No server has such a date: it is shown as the bytes that came.
        assert_eq!(date(&[11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], true), None);
        assert_eq!(date(&[7, 15, 39, 12, 31, 100, 59, 58], true), None);
        assert_eq!(
            date(&[11, 0xe8, 7, 1, 2, 3, 4, 5, 255, 255, 255, 255], true).as_deref(),
            Some("2024-01-02 03:04:05.4294967295")
        );
        assert_eq!(date(&[7, 15, 39, 12, 31, 23, 59, 58], true).as_deref(), Some("9999-12-31 23:59:58"));
        assert_eq!(
            date(&[11, 0xe8, 7, 1, 2, 3, 4, 5, 1, 0, 0, 0], true).as_deref(),
            Some("2024-01-02 03:04:05.000001")
        );
        assert_eq!(date(&[4, 1], true), None);
    }
}
